// What is known of the user: one control a field of the bundle.
import { el, showChips } from "./view.js";

export class Fields {
  constructor(place, changed) {
    this.place = place;
    this.changed = changed;
    this.controls = [];
    this.history = null;
  }

  show(fields, users) {
    this.controls = [];
    this.history = null;
    this.place.replaceChildren();
    for (const field of fields) {
      if (field.kind === "vector") continue; // nobody types one
      const control = field.kind === "history"
        ? new History(field, this.changed) : new Control(field, users, this.changed);
      if (field.kind === "history") {
        if (this.history) continue; // several read the same choices
        this.history = control;
      }
      this.controls.push(control);
      this.place.append(control.element);
    }
  }

  values() {
    const given = this.controls.map((control) => [control.name, control.value()]);
    return Object.fromEntries(given.filter(([, value]) => value !== null));
  }

  clear() {
    for (const control of this.controls) control.clear();
  }
}

const words = (name) => name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());
const listed = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);

class Control {
  constructor({ name, kind }, users, changed) {
    this.name = name;
    this.kind = kind;
    const id = `field-${name}`;
    this.input = kind === "text"
      ? el("textarea", { id, rows: 3, placeholder: "Such as: slow science fiction, heist films" })
      : el("input", { id, type: kind === "number" ? "number" : "text", step: "any",
        autocomplete: "off", spellcheck: "false" });
    this.input.addEventListener("input", () => changed());
    const size = ["number", "category"].includes(kind) ? "field narrow" : "field";
    this.element = el("div", { className: size }, this.label(id), this.input);
    if (kind === "id" && users.length) this.suggest(id, users, changed);
  }

  label(id) {
    const notes = { categories: "several, with commas", number: "a number" };
    const note = notes[this.kind] ? el("span", { className: "kind" }, ` – ${notes[this.kind]}`) : "";
    return el("label", { htmlFor: id }, words(this.name), note);
  }

  suggest(id, users, changed) {
    const list = el("datalist", { id: `${id}-known` },
      ...users.map((user) => el("option", { value: user })));
    const button = el("button", { type: "button" }, "Pick one");
    button.setAttribute("aria-label", "Pick a known user");
    button.addEventListener("click", () => {
      const others = users.filter((user) => user !== this.input.value);
      this.input.value = others[Math.floor(Math.random() * others.length)] ?? users[0];
      changed(0);
    });
    this.input.setAttribute("list", list.id);
    this.input.placeholder = `Such as ${users[0]}`;
    this.element.append(el("div", { className: "row" }, this.input, button), list);
  }

  value() {
    const text = this.input.value.trim();
    if (!text) return null;
    if (this.kind === "number") return { numberValue: Number(text) };
    if (this.kind === "categories") return { stringList: { values: listed(text) } };
    return { stringValue: text };
  }

  clear() {
    this.input.value = "";
  }
}

class History {
  constructor({ name }, changed) {
    this.name = name;
    this.changed = changed;
    this.items = [];
    const id = `field-${name}`;
    this.input = el("input", { id, type: "text", autocomplete: "off", spellcheck: "false",
      placeholder: "Item ids, with commas" });
    const button = el("button", { type: "button" }, "Add");
    button.setAttribute("aria-label", "Add to the history");
    this.chips = el("ul", { className: "chips" });
    this.chips.setAttribute("aria-label", "Chosen items, the latest last");
    button.addEventListener("click", () => this.typed());
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.typed();
    });
    this.element = el("div", { className: "field" }, el("label", { htmlFor: id }, words(name)),
      this.chips, el("div", { className: "row" }, this.input, button));
  }

  typed() {
    for (const id of listed(this.input.value)) this.add({ id, title: id });
    this.input.value = "";
    this.changed(0);
  }

  add(item) {
    if (this.items.every((known) => known.id !== item.id)) this.items.push(item);
    this.show();
  }

  show() {
    showChips(this.chips, this.items, (item) => {
      this.items.splice(this.items.indexOf(item), 1);
      this.show();
      this.changed(0);
    });
  }

  value() {
    return this.items.length ? { stringList: { values: this.items.map((item) => item.id) } } : null;
  }

  clear() {
    this.items = [];
    this.input.value = "";
    this.show();
  }
}
