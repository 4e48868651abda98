// What must be true of an item's attributes. Which attributes there are, answers tell.
import { el } from "./view.js";

const MOST_VALUES = 200;

export class Filters {
  constructor(place, button, changed) {
    this.place = place;
    this.button = button;
    this.changed = changed;
    this.known = new Map(); // by attribute: whether it is a number, and values that were seen
    this.rows = [];
    button.addEventListener("click", () => this.add());
  }

  learn(ids, items, title) {
    for (const [index, item] of items.entries()) this.learnOne(ids[index], item, title);
    this.button.hidden = !this.known.size;
  }

  learnOne(id, item, title) {
    for (const [name, value] of Object.entries(item)) {
      if (name === title || String(value) === id) continue;
      const values = (Array.isArray(value) ? value : [value])
        .filter((one) => ["string", "number"].includes(typeof one));
      if (!values.length) continue;
      const attribute = this.known.get(name) ?? { number: true, values: new Set() };
      attribute.number &&= values.every((one) => typeof one === "number");
      for (const one of values) if (attribute.values.size < MOST_VALUES) attribute.values.add(one);
      this.known.set(name, attribute);
    }
  }

  add() {
    const row = new Row(this.known, this.changed, () => {
      this.rows.splice(this.rows.indexOf(row), 1);
      row.element.remove();
      this.button.focus();
      this.changed(0);
    });
    this.rows.push(row);
    this.place.append(row.element);
    row.attribute.focus();
  }

  predicates() {
    return this.rows.map((row) => row.predicate()).filter(Boolean);
  }

  clear() {
    this.rows = [];
    this.place.replaceChildren();
  }
}

class Row {
  constructor(known, changed, remove) {
    this.known = known;
    this.changed = changed;
    this.attribute = el("select", {}, ...[...known.keys()].sort().map((name) => el("option", {}, name)));
    this.attribute.setAttribute("aria-label", "Attribute");
    this.attribute.addEventListener("change", () => {
      this.show();
      changed(0);
    });
    this.test = el("div");
    const button = el("button", { type: "button" }, "×");
    button.setAttribute("aria-label", "Remove the filter");
    button.addEventListener("click", remove);
    this.element = el("fieldset", { className: "filter" },
      el("legend", { className: "unseen" }, "Filter"), this.attribute, this.test, button);
    this.show();
  }

  show() {
    const { number, values } = this.known.get(this.attribute.value);
    const input = (label, rest) => {
      const made = el("input", { autocomplete: "off", ...rest });
      made.setAttribute("aria-label", label);
      made.addEventListener("input", () => this.changed());
      return made;
    };
    this.test.className = number ? "bounds" : "";
    if (number) {
      const bound = { type: "number", step: "any" };
      this.inputs = [input("At least", { ...bound, placeholder: "from" }),
        input("At most", { ...bound, placeholder: "to" })];
      this.test.replaceChildren(...this.inputs);
      return;
    }
    const list = el("datalist", { id: `values-${crypto.getRandomValues(new Uint32Array(1))[0]}` },
      ...[...values].map(String).sort().map((value) => el("option", { value })));
    this.inputs = [input("Is", { type: "text", placeholder: "is" })];
    this.inputs[0].setAttribute("list", list.id);
    this.test.replaceChildren(...this.inputs, list);
  }

  predicate() {
    const attribute = this.attribute.value;
    const [first, second] = this.inputs.map((input) => input.value.trim());
    if (this.known.get(attribute).number && this.inputs.length === 2) {
      const range = {};
      if (first) range.least = Number(first);
      if (second) range.most = Number(second);
      return first || second ? { attribute, range } : null;
    }
    return first ? { attribute, equals: { stringValue: first } } : null;
  }
}
