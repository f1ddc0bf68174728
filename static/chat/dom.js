// Small steps on the page that several parts share.  Data reaches the page as text only.

export const byId = (id) => document.getElementById(id);

/** A copy of the only element inside a <template>. */
export const clone = (templateId) => byId(templateId).content.firstElementChild.cloneNode(true);

const sprite = new URL("icons.svg", import.meta.url).href;

/** Let an <svg class="icon"> show a symbol of the sprite. */
export function showIcon(svg, symbol) {
  svg.querySelector("use").setAttribute("href", `${sprite}#${symbol}`);
}

/** Fill an avatar; people whose data names no known symbol get a plain one. */
export function showAvatar(avatar, symbol) {
  const name = /^[a-z]+$/.test(symbol ?? "") ? symbol : "spark";
  avatar.dataset.icon = name;
  showIcon(avatar.querySelector("svg"), name);
}

const list = new Intl.ListFormat("en");

/** "Ann", "Ann and Bob", "Ann, Bob, and 3 others". */
export function inWords(names, most = 3) {
  const rest = names.length - most;
  if (rest <= 0) return list.format(names);
  return list.format([...names.slice(0, most), rest === 1 ? "1 other" : `${rest} others`]);
}

/** Speak through a live region, once things have been quiet for a moment. */
export function speaker(region, quietMs = 1000) {
  let timer;
  return (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      region.textContent = text;
    }, quietMs);
  };
}
