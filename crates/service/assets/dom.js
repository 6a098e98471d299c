// Elements. Text from the service is always text here: nothing is ever read as HTML.

/// Makes an element. A property that begins with `on` is a listener, `class` and names with a dash are attributes, `null` and
/// `false` leave a property out.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "max") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/// Says something to those who hear the page instead of seeing it.
export function say(text) {
  const place = document.getElementById("spoken");
  // The same text twice is said twice.
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = text; });
}

/// A line about something that went wrong, with what to do about it.
export function problem(failure) {
  const parts = [h("p", {}, failure.message)];
  for (const cause of failure.causes ?? []) parts.push(h("p", { class: "cause" }, cause));
  if (failure.remedy) parts.push(h("p", { class: "remedy" }, failure.remedy));
  return h("div", { class: "notice bad", role: "alert" }, parts);
}

/// Names and what they are, without those that are nothing.
export function facts(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

let made = 0;

/// A label, its field, and what helps to fill it in.
export function field(label, control, help = null) {
  made += 1;
  control.id ||= `field-${made}`;
  if (help) control.setAttribute("aria-describedby", `${control.id}-help`);
  return h("div", { class: "field" },
    h("label", { for: control.id }, label), control,
    help && h("small", { id: `${control.id}-help` }, help));
}

/// A list to choose from: pairs of value and text.
export function choice(pairs, chosen, onchange = null) {
  const options = pairs.map(([value, text]) => h("option", { value }, text));
  const select = h("select", onchange ? { onchange } : {}, options);
  select.value = chosen;
  return select;
}
