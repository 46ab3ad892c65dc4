// One switch for all code of a page, tables that sort, names for the theme's arrows. Without scripts the pages read the same.
(() => {
  const switchCode = () => {
    const folded = document.querySelectorAll("div.cell details.hide.above-input");
    const title = document.querySelector(".bd-article h1");
    if (!folded.length || !title) return;
    const button = document.createElement("button");
    button.className = "code-switch";
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Show all code";
    button.addEventListener("click", () => {
      const shown = document.body.classList.toggle("show-code");
      folded.forEach((part) => { part.open = shown; });
      button.setAttribute("aria-pressed", String(shown));
      button.textContent = shown ? "Hide all code" : "Show all code";
    });
    title.after(button);
  };

  const value = (row, column) => {
    const text = row.cells[column].textContent.trim().replace(/\u2212/g, "-").replace(/,/g, "");
    const number = parseFloat(text);
    return { text, number };
  };

  const sort = (table, column, head) => {
    const falling = head.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((one, two) => {
      const a = value(one, column), b = value(two, column);
      const order = Number.isNaN(a.number) || Number.isNaN(b.number) ? a.text.localeCompare(b.text) : a.number - b.number;
      return falling ? -order : order;
    });
    body.append(...rows);
  };

  const sortable = () => document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("thead th").forEach((head, column) => {
      head.setAttribute("role", "columnheader");
      head.tabIndex = 0;
      head.addEventListener("click", () => sort(table, column, head));
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(table, column, head); });
    });
  });

  // The theme's arrows in the sidebar and fields without a name say nothing to a screen reader.
  const named = () => document.querySelectorAll("summary").forEach((summary) => {
    if (summary.textContent.trim() || summary.getAttribute("aria-label")) return;
    const parent = summary.closest("li")?.querySelector("a")?.textContent.trim();
    summary.setAttribute("aria-label", `Pages below ${parent || "this one"}`);
  });

  document.addEventListener("DOMContentLoaded", () => { switchCode(); sortable(); named(); });
})();
