// The classes and their colours.

import { byId, make } from "./dom.js";

export class Legend {
  constructor() {
    this.known = "";
  }

  update({ classes, palette }) {
    const key = JSON.stringify([classes, palette]);
    if (key === this.known) return;
    this.known = key;
    byId("legend").replaceChildren(...classes.map((name, index) => {
      const item = make("li");
      const swatch = make("span", "swatch");
      if (palette?.[index]) swatch.style.backgroundColor = `rgb(${palette[index].join(" ")})`;
      item.append(swatch, make("span", "", name));
      return item;
    }));
  }
}
