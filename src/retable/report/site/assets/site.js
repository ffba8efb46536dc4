// The script of every page: theme, sorting, filters, what stands behind a cell, curves. Data files
// are scripts that call retable.give, because a page from file:// may not fetch anything.
"use strict";

window.retable = (() => {
  const root = document.currentScript.dataset.root;
  const given = new Map();
  const loads = new Map();
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const make = (name, values = {}, ...children) => {
    const found = Object.assign(document.createElement(name), values);
    found.append(...children);
    return found;
  };

  // What only a script can open is closed from the start where there is one: nothing moves later.
  document.documentElement.classList.add("scripted");

  // Theme: the system's, or what was chosen here.
  const stored = () => { try { return localStorage.getItem("retable-theme"); } catch { return null; } };
  if (stored()) document.documentElement.dataset.theme = stored();
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";

  function themeButton(button) {
    const show = () => {
      button.replaceChildren(isDark() ? "Light" : "Dark", make("span", { className: "hidden", textContent: " theme" }));
    };
    const changed = () => { show(); all(".plot").forEach((plot) => plot.redraw?.()); };
    button.hidden = false;
    button.onclick = () => {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("retable-theme", document.documentElement.dataset.theme); } catch { /* not kept */ }
      changed();
    };
    prefersDark.addEventListener("change", changed);
    show();
  }

  // Data files.
  function load(src) {
    const url = new URL(src, document.baseURI).href;
    if (!loads.has(url)) {
      loads.set(url, new Promise((done, failed) => {
        const script = make("script", { src: url });
        script.onload = () => done(given.get(url));
        script.onerror = () => { loads.delete(url); failed(new Error(`cannot load ${src}`)); };
        document.head.append(script);
      }));
    }
    return loads.get(url);
  }

  // Sorting: up, down, as it was. Empty values stay at the end.
  function valueOf(row, column) {
    const cell = row.cells[column];
    if (!cell) return "";
    return (cell.dataset.value ?? cell.textContent).trim();
  }
  function compare(a, b) {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? Infinity : -Infinity;
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  }
  const ordered = (items, key, direction) => items
    .map((item, index) => ({ item, key: key(item), index }))
    .sort((a, b) => {
      const found = compare(a.key, b.key);
      return (Math.abs(found) === Infinity ? found : found * direction) || a.index - b.index;
    })
    .map((entry) => entry.item);

  function sortButtons(heads, sort) {
    for (const head of heads) {
      const button = make("button", { type: "button", className: "sort" });
      button.append(...head.childNodes);
      head.append(button);
      button.onclick = () => {
        const now = head.getAttribute("aria-sort");
        const next = now === null ? "ascending" : now === "ascending" ? "descending" : null;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        sort(head, next === "ascending" ? 1 : next === "descending" ? -1 : 0);
      };
    }
  }
  function sortable(table) {
    const bodies = [...table.tBodies];
    const rows = new Map(bodies.map((body) => [body, [...body.rows]]));
    sortButtons(all("th[data-col]", table), (head, direction) => {
      const column = Number(head.dataset.col);
      for (const [body, known] of rows) {
        // The first row of a group is its heading and stays there.
        const fixed = known.filter((row) => row.classList.contains("paper-row"));
        const moving = known.filter((row) => !row.classList.contains("paper-row"));
        body.append(...fixed, ...(direction ? ordered(moving, (row) => valueOf(row, column), direction) : moving));
      }
      const groups = direction && bodies.length > 1
        ? ordered(bodies, (body) => valueOf(body.rows[0], column), direction) : bodies;
      table.append(...groups);
    });
  }

  // Groups whose rows are below a fold; what is searched for is shown, whoever has closed it.
  const folds = new Map();
  function unfold(body, open) {
    body.classList.toggle("open", open);
    folds.get(body)?.setAttribute("aria-expanded", open);
  }
  function foldable(button) {
    const body = button.closest("tbody");
    folds.set(body, button);
    button.onclick = () => unfold(body, !body.classList.contains("open"));
  }

  // Filters of tables in groups: a group's heading stays as long as one of its rows does.
  function filters(form) {
    const table = document.getElementById(form.dataset.filters);
    let before = null; // which groups were open before anything was searched for
    const apply = () => {
      const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const has = form.elements.has.value;
      const searched = words.length > 0 || has !== "";
      let shown = 0, total = 0;
      if (searched) before ??= [...table.tBodies].filter((body) => body.classList.contains("open"));
      for (const body of table.tBodies) {
        let any = false;
        for (const row of body.rows) {
          if (row.classList.contains("paper-row")) continue;
          const text = `${body.dataset.text} ${row.dataset.text}`;
          const fits = words.every((word) => text.includes(word))
            && (!has || row.dataset.has.split(" ").includes(has));
          row.hidden = !fits;
          total += 1; shown += fits; any = any || fits;
        }
        body.hidden = !any;
        if (searched) unfold(body, true);
        else if (before) unfold(body, before.includes(body));
      }
      if (!searched) before = null;
      form.querySelector(".found").value = shown === total ? `${total} in all` : `${shown} of ${total}`;
    };
    form.oninput = apply;
    form.onsubmit = (event) => event.preventDefault();
    apply();
  }

  // A number to ten digits, as Python's records have it.
  const plain = (value) => typeof value === "number" ? String(Number(value.toPrecision(10))).replace(/-/g, "−") : value;
  function seedRow([seed, value, run, status]) {
    const link = run && make("a", { href: `${root}run.html?${run}` }, make("code", { textContent: run.slice(0, 12) }));
    const number = make("td", { className: "num", textContent: value === null ? "–" : plain(value) });
    number.dataset.value = value ?? "";
    return make("tr", {}, make("td", { className: "num", textContent: seed }), number,
      make("td", {}, link, status && make("span", { className: "status", textContent: ` ${status}` })));
  }

  // What stands behind a cell: its address opens it, so that it can be linked to.
  function cells(panel) {
    const links = all("a.cell");
    const body = panel.querySelector(".panel-body");
    const bare = location.href.split("#")[0];
    const linked = () => links.find((link) => link.getAttribute("href") === location.hash);
    const [back, forth] = all("[data-go]", panel);
    let from = null;
    async function show() {
      const link = linked();
      links.forEach((other) => other.removeAttribute("aria-current"));
      document.body.classList.toggle("beside", Boolean(link));
      panel.hidden = !link;
      if (!link) { from?.focus(); from = null; return; }
      from = link;
      for (let fold = link.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
      link.setAttribute("aria-current", "true");
      back.disabled = links.indexOf(link) === 0;
      forth.disabled = links.indexOf(link) === links.length - 1;
      try {
        const content = await load(link.dataset.src);
        if (linked() !== link) return;
        body.innerHTML = content.html; // written by the templates, which escape all they are given
        body.querySelector("tbody.seeds")?.append(...content.seeds.map(seedRow));
      } catch (error) {
        body.replaceChildren(make("h2", { id: "cell-title", tabIndex: -1, textContent: error.message }));
      }
      panel.scrollTop = 0;
      enhance(body);
      body.querySelector("#cell-title").focus({ preventScroll: true });
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    const close = () => { history.pushState(null, "", bare); show(); };
    const go = (by) => { location.hash = links[links.indexOf(linked()) + by].getAttribute("href"); };
    panel.querySelector("[data-close]").onclick = close;
    back.onclick = () => go(-1);
    forth.onclick = () => go(1);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !panel.hidden) close();
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const at = event.target.closest?.("a.cell")?.parentElement;
      if (!step || !at || event.altKey || event.ctrlKey || event.metaKey) return;
      const rows = at.closest("tbody").rows;
      const next = rows[at.parentElement.sectionRowIndex + step[0]]?.cells[at.cellIndex + step[1]];
      const link = next?.querySelector("a.cell");
      if (link) { event.preventDefault(); link.focus(); }
    });
    addEventListener("hashchange", show);
    addEventListener("popstate", () => { if (!linked() && !panel.hidden) show(); });
    show();
  }

  // Curves: the plot library is loaded once one is about to be seen.
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target).catch((error) => { entry.target.textContent = error.message; });
    }
  }, { rootMargin: "200px" });

  async function draw(place) {
    const [charts] = await Promise.all([place.charts ?? load(place.dataset.src), load(`${root}assets/plotly.min.js`)]);
    // The page has their frames already, so that nothing moves when they are filled.
    const plots = all(".plot", place);
    plots.forEach((plot, index) => {
      const chart = charts[index];
      plot.setAttribute("role", "img");
      plot.setAttribute("aria-label", described(chart, [place.dataset.label, chart.title].filter(Boolean).join(", ")));
      plot.redraw = () => window.Plotly.react(plot, traces(chart), layout(chart), { displayModeBar: false });
      plot.redraw();
      new ResizeObserver(() => plot.isConnected && window.Plotly.Plots.resize(plot)).observe(plot);
    });
  }
  function described(chart, title) {
    const ends = chart.lines.slice(0, 8).filter((line) => line.y.length)
      .map((line) => `${line.name}: ${line.y[0]} to ${line.y[line.y.length - 1]}${line.mark == null ? "" : `, marked at ${line.mark}`}`);
    return `Chart ${title}, ${chart.y} against ${chart.x}. ${ends.join("; ")}`;
  }
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const MARKS = ["circle", "square", "diamond", "triangle-up", "x", "star"];

  function traces(chart) {
    const found = [];
    for (const line of chart.lines) {
      const paper = line.kind === "paper";
      const [hue, dash] = line.style;
      const ink = colour(`--line-${hue}`);
      const name = escaped(line.name);
      if (line.sd && !paper) {
        const at = line.x.map((_, i) => i).filter((i) => line.y[i] !== null);
        const low = (i) => chart.log.includes("y")
          ? Math.max(line.y[i] - (line.sd[i] ?? 0), line.y[i] * .05) : line.y[i] - (line.sd[i] ?? 0);
        found.push({
          x: [...at.map((i) => line.x[i]), ...at.map((i) => line.x[i]).reverse()],
          y: [...at.map((i) => line.y[i] + (line.sd[i] ?? 0)), ...at.map(low).reverse()],
          fill: "toself", fillcolor: `${ink}2e`, line: { width: 0 }, mode: "lines", hoverinfo: "skip", type: "scatter",
        });
      }
      found.push({
        x: line.x, y: line.y, name, type: "scatter",
        mode: paper ? "markers" : line.x.length > 20 ? "lines" : "lines+markers",
        line: { color: ink, width: 2, dash: DASHES[dash] },
        marker: { color: ink, size: paper ? 9 : 6, symbol: MARKS[dash] + (paper ? "-open" : ""), line: { width: paper ? 2 : 0, color: ink } },
        error_y: paper && line.sd ? { type: "data", array: line.sd, color: ink, thickness: 1 } : undefined,
        hovertemplate: `%{y}<extra>${name}</extra>`,
      });
    }
    return found;
  }
  const wrapped = (text, limit) => text.split(" ").reduce((lines, word) => {
    const last = lines.at(-1);
    return last && last.length + word.length < limit ? [...lines.slice(0, -1), `${last} ${word}`] : [...lines, word];
  }, []).map(escaped).join("<br>");
  function layout(chart) {
    const axis = (name) => ({
      title: { text: wrapped(chart[name], name === "y" ? 26 : 60), font: { size: 12 }, standoff: 8 }, exponentformat: "power", type: chart.log.includes(name) ? "log" : "linear",
      gridcolor: colour("--rule"), zerolinecolor: colour("--rule"), linecolor: colour("--quiet"), automargin: true,
    });
    return {
      xaxis: axis("x"), yaxis: axis("y"), hovermode: "x unified", dragmode: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: colour("--sans"), size: 12, color: colour("--ink") },
      hoverlabel: { bgcolor: colour("--raised"), font: { color: colour("--ink") } },
      margin: { l: 50, r: 10, t: 8, b: 40 }, showlegend: false, shapes: chart.lines.filter((line) => line.mark != null).map(upright),
    };
  }
  // Where a row of a figure is marked on the x axis.
  function upright(line) {
    const ink = { color: colour(`--line-${line.style[0]}`), width: 1.5, dash: "dot" };
    return { type: "line", xref: "x", yref: "paper", x0: line.mark, x1: line.mark, y0: 0, y1: 1, layer: "below", line: ink };
  }

  function enhance(from) {
    all("table[data-sortable]", from).forEach(sortable);
    all(".plots", from).forEach((plots) => seen.observe(plots));
    all("[data-copy]", from).forEach((button) => {
      button.hidden = !navigator.clipboard;
      button.onclick = async () => {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "Copied";
      };
    });
  }
  addEventListener("DOMContentLoaded", () => {
    all("button.theme").forEach(themeButton);
    all("button.fold").forEach(foldable);
    enhance(document);
    all("form[data-filters]").forEach(filters);
    all("#behind").forEach(cells);
  });
  return { give: (value) => given.set(document.currentScript.src, value), all, enhance, load, make, plain, root, sortButtons };
})();
