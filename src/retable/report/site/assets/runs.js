// The list of runs, and the page that shows any one of them.
"use strict";

(() => {
  const { all, enhance, load, make, plain, root, sortButtons } = window.retable;

  // The list of runs: ten thousand rows are searched in memory, a page of them is shown.
  const PAGE = 100;
  async function runList(form) {
    const table = document.getElementById("runs");
    const found = form.querySelector(".found");
    const turn = document.querySelector(".pages");
    let data;
    try { data = await load(form.dataset.runs); } catch (error) { found.value = error.message; return; }
    const words = [null, data.papers, data.experiments, data.settings, null, data.statuses, null, data.dates];
    const word = (run, key) => words[key] ? words[key][run[key]] : run[key];
    const texts = data.runs.map((run) => [run[0], word(run, 1), word(run, 2), word(run, 3), `seed=${run[4]}`,
      word(run, 5), word(run, 7)].join(" ").toLowerCase());
    data.tables.forEach((name, index) => form.elements.table.append(make("option", { value: index, textContent: name })));
    data.statuses.forEach((name, index) => form.elements.status.append(make("option", { value: index, textContent: name })));
    const collator = new Intl.Collator("en", { numeric: true });
    let chosen = [], page = 0, key = null, direction = 0;
    function choose() {
      const parts = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const { table: { value: inTable }, status: { value: status } } = form.elements;
      chosen = data.runs.map((_, index) => index).filter((index) => {
        const run = data.runs[index];
        return (status === "" || run[5] === Number(status))
          && (inTable === "" || run[8].includes(Number(inTable)))
          && parts.every((part) => texts[index].includes(part));
      });
      if (direction) {
        const by = chosen.map((index) => word(data.runs[index], key));
        const place = chosen.map((_, i) => i).sort((a, b) =>
          (typeof by[a] === "number" ? by[a] - by[b] : collator.compare(by[a], by[b])) * direction || a - b);
        chosen = place.map((i) => chosen[i]);
      }
      page = 0;
      show();
    }
    function show() {
      const last = Math.max(0, Math.ceil(chosen.length / PAGE) - 1);
      page = Math.min(Math.max(page, 0), last);
      table.tBodies[0].replaceChildren(...chosen.slice(page * PAGE, (page + 1) * PAGE).map((index) => {
        const run = data.runs[index];
        const link = make("a", { href: `${root}run.html?${run[0]}` }, make("code", { textContent: run[0].slice(0, 12) }));
        const cell = (content, className = "") => make("td", { className }, content);
        return make("tr", {}, cell(link), cell(word(run, 2)), cell(word(run, 3)), cell(String(run[4]), "num"),
          cell(make("span", { className: `status ${word(run, 5)}`, textContent: word(run, 5) })), cell(run[6].toFixed(2), "num"), cell(word(run, 7)));
      }));
      found.value = `${chosen.length.toLocaleString("en")} of ${data.runs.length.toLocaleString("en")} runs`;
      turn.hidden = last === 0;
      turn.querySelector(".page-of").textContent = `Page ${page + 1} of ${last + 1}`;
      const [back, forth] = all("[data-turn]", turn);
      back.disabled = page === 0;
      forth.disabled = page === last;
    }
    all("[data-turn]", turn).forEach((button) => { button.onclick = () => { page += Number(button.dataset.turn); show(); }; });
    sortButtons(all("th[data-key]", table), (head, to) => { key = Number(head.dataset.key); direction = to; choose(); });
    form.oninput = choose;
    form.onsubmit = (event) => event.preventDefault();
    choose();
  }

  // A run: its address is run.html?key, its data lies with that of others in a file.
  async function runPage(main) {
    const key = location.search.slice(1);
    let words, run, short;
    try {
      const data = await load(`${root}runs/${key.slice(0, 2)}.js`);
      words = (index) => data.words[index];
      const whole = Object.keys(data.runs).find((one) => key.length >= 8 && one.startsWith(key));
      run = data.runs[whole];
    } catch { /* said below */ }
    if (!run) {
      main.querySelector("h1").textContent = "No such run here";
      main.querySelector(".lede").textContent = `Nothing is known of the run ${key || "without a key"}.`;
      return;
    }
    short = words(run.short);
    document.title = `Run ${short.slice(0, 12)} · retable`;
    const link = (page, ...content) => make("a", { href: root + page }, ...content);
    const code = (text) => make("code", { textContent: text });
    const quiet = (text) => make("span", { className: "quiet", textContent: text });
    const text = (name, content, className = "") => make(name, { className, textContent: content });
    const pairs = (numbers) => Array.from({ length: numbers.length / 2 }, (_, i) => [words(numbers[2 * i]), words(numbers[2 * i + 1])]);
    const facts = (found, className = "") => make("dl", { className: `facts ${className}` },
      ...found.flatMap(([name, value]) => [text("dt", name), text("dd", value)]));
    const section = (title, ...content) => [text("h2", title), ...content];
    const command = `retable verify ${short}`;
    const copy = make("button", { type: "button", hidden: true, textContent: "Copy" });
    copy.dataset.copy = command;

    main.replaceChildren(
      make("p", { className: "crumbs" }, link("index.html", "Overview"), " / ", link("runs.html", "Runs"), " / ", link(words(run.paper[1]), words(run.paper[0]))),
      make("h1", {}, ...words(run.name).split("/").flatMap((part, i) => (i ? ["/", make("wbr"), part] : [part])), " ", quiet(`seed ${run.seed}`)),
      make("p", { className: "meta" }, text("span", words(run.status), `status ${words(run.status)}`), " · protocol ", text("b", words(run.protocol)), " · ", code(short)),
      make("p", { className: "command" }, text("span", "Run it again and compare:"), " ", code(command), " ", copy),
      ...run.chain ? [make("p", { className: "meta" }, "Started from ", ...run.chain.flatMap((above) => {
        const [said, name, page] = above.map(words);
        return [page ? link(page, `${name} `, code(said)) : code(said), " → "];
      }), "this run")] : [],
      ...run.error ? section("Error", labelled(text("pre", run.error, "error"), "Error")) : [],
      ...run.places.length ? section("Where its numbers stand", make("ul", { className: "places" }, ...run.places.map(place))) : [],
      ...run.charts ? section("Curves", plots(run.charts)) : [],
      ...run.results.length ? section("Results", results(run.results)) : [],
      ...run.timings ? [text("p", `Times are measured, not compared: ${run.timings}.`, "note")] : [],
      ...run.validation ? section("Validation", facts([
        ...run.validation.map(([name, value]) => [words(name), plain(value)]),
        ...run.best === undefined ? [] : [["of epoch", run.best]],
      ])) : [],
      ...section("Config", facts(pairs(run.config), "config")),
      ...section("Provenance", facts(pairs(run.facts))),
    );
    enhance(main);

    function labelled(region, label) {
      region.tabIndex = 0;
      region.setAttribute("role", "region");
      region.setAttribute("aria-label", label);
      return region;
    }
    function place([title, name, page, numbers]) {
      const cells = make("ul", {}, ...pairs(numbers).map(([said, anchor]) => make("li", {}, link(`${words(page)}#${anchor}`, said))));
      const many = numbers.length > 16;
      const none = `in no cell: ${words(run.status) === "done" ? "it chose a setting" : "it is not done"}`;
      return make("li", {}, link(words(page), words(title)), " ", quiet(words(name)), " ",
        !numbers.length ? quiet(none) : many ? make("details", {}, text("summary", `${numbers.length / 2} cells`), cells) : cells);
    }
    function results(found) {
      const head = (title, index, className = "") => {
        const cell = make("th", { scope: "col", className, textContent: title });
        cell.dataset.col = index;
        return cell;
      };
      const table = make("table", { className: "list" },
        make("thead", {}, make("tr", {}, head("Metric", 0), head("Row", 1), head("Step", 2, "num"), head("Value", 3, "num"))),
        make("tbody", {}, ...found.map(([metric, row, step, value]) => {
          const number = text("td", plain(value), "num");
          number.dataset.value = value;
          return make("tr", {}, text("td", words(metric)), text("td", words(row)), text("td", step ?? "", "num"), number);
        })));
      table.dataset.sortable = "";
      return labelled(make("div", { className: "scroll" }, table), "Results");
    }
    // As the templates make them for tables.
    function plots(charts) {
      const found = make("div", { className: "plots" }, ...charts.map((chart) => {
        const keys = text("ul", "", "keys");
        keys.append(...chart.lines.filter((line) => line.key).map((line) => {
          const item = make("li");
          item.innerHTML = `<svg viewBox="0 0 30 12" aria-hidden="true"><path class="line-${Number(line.style[0])} dash-${Number(line.style[1])}" d="M0 6h30"/></svg>`;
          item.append(line.name);
          return item;
        }));
        return make("figure", {}, text("figcaption", chart.title || chart.y), keys, text("div", "", "plot"));
      }));
      found.charts = charts;
      return found;
    }
  }

  addEventListener("DOMContentLoaded", () => {
    all("form[data-runs]").forEach(runList);
    all("main:has(.run-page)").forEach(runPage);
  });
})();
