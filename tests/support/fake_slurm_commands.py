"""What each command of the fake SLURM does; copied under their names by its fixture."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

SINFO = "low*|1-00:00:00|2|8000|gpu:2\nhigh|1-00:00:00|2|8000|gpu:2\n"
CONFIG = "Configuration data as of 2026-11-24T10:00:00\nMaxArraySize            = 1001\n"


def _sbatch(folder, given):
    script = next(Path(text) for text in given if not text.startswith("--"))
    lines = re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script.read_text(), re.MULTILINE)
    options = {name: value.strip('"') for name, value in lines}
    options |= {t[2:].partition("=")[0]: t.partition("=")[2] for t in given if t[:2] == "--"}
    number = int((folder / "last").read_text()) + 1 if (folder / "last").exists() else 101
    (folder / "last").write_text(str(number))
    about = {"state": "PENDING", "options": options, "script": str(script)}
    (folder / "q" / f"{number}.json").write_text(json.dumps(about))
    print(number)


def _squeue(folder, given):
    options = {t[2:].partition("=")[0]: t.partition("=")[2] for t in given}
    found = False
    for path in sorted((folder / "q").iterdir()):
        if "jobs" in options and path.stem not in options["jobs"].split(","):
            continue
        found = True
        about = json.loads(path.read_text())
        last = re.match(r"0-(\d+)", about["options"].get("array", ""))
        for task in range(int(last[1]) + 1) if last else ["N/A"]:
            comment = about["options"].get("comment", "(null)")
            fields = [path.stem, str(task), about["state"], "", "30:00", "Priority", comment]
            print("|".join(fields))
    if not found and "," not in options.get("jobs", ","):
        sys.exit("slurm_load_jobs error: Invalid job id specified")


def main():
    folder, command, given = Path(__file__).parent, Path(__file__).name, sys.argv[1:]
    with (folder / "calls.jsonl").open("a") as file:
        file.write(json.dumps([command, *given]) + "\n")
    if (folder / f"{command}.json").exists():
        said = json.loads((folder / f"{command}.json").read_text())
        sys.stdout.write(said["text"])
        sys.stderr.write(said["error"])
        sys.exit(said["code"])
    match command:
        case "sbatch":
            _sbatch(folder, given)
        case "squeue":
            _squeue(folder, given)
        case "scancel":
            for job in given:
                (folder / "q" / f"{job}.json").unlink(missing_ok=True)
        case "sinfo":
            sys.stdout.write(SINFO)
        case "scontrol":
            sys.stdout.write(CONFIG)


if __name__ == "__main__":
    main()
