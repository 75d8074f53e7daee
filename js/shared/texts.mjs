// The pack's own texts in the language of the interface, from locales/<language>/main.json.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const FALLBACK = "en";

let loading = null;

/** Fetch the texts once; later calls share the first answer. */
function load() {
  loading ??= api.fetchApi("/i18n").then((answer) => answer.json());
  return loading;
}

/**
 * A function that gives texts by key and fills in {placeholders}.
 *
 * @returns {Promise<(key: string, values?: Record<string, string>) => string>}
 */
export async function texts() {
  const all = await load();
  const language = app.ui.settings.getSettingValue("Comfy.Locale");
  const own = all[language]?.sa3 ?? {};
  const fallback = all[FALLBACK]?.sa3 ?? {};
  return (key, values = {}) => {
    const text = own[key] ?? fallback[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
  };
}
