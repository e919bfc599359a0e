// Texts in the language of the page: the page brings those of scripts, unless it is English, in which they are written.

const brought = document.getElementById("texts");
const { forms, texts } = brought ? JSON.parse(brought.textContent) : { forms: "", texts: {} };
export const LANGUAGE = document.documentElement.lang;

const filled = (text, values) => text.replace(/%(?:\((\w+)\)s|%)/g, (all, name) => (name ? values[name] : "%"));

/** Return a text with values in the place of `%(name)s`; `%%` is a percent sign. */
export const gettext = (message, values = {}) => filled(texts[message] ?? message, values);

/** Return the form of a text that goes with a number, which is `%(count)s` in it. */
export function ngettext(one, many, count, values = {}) {
  const place = forms ? Number(forms[count < forms.length ? count : 100 + (count % 100)]) : Number(count !== 1);
  return filled((texts[one] ?? [one, many])[place], { count: number(count), ...values });
}

/** Return a number as the language of the page writes it. */
export const number = (value, options) => value.toLocaleString(LANGUAGE, options);

/** Return a number with so many digits behind the point. */
export const fixed = (value, digits) => number(value, { minimumFractionDigits: digits, maximumFractionDigits: digits });
