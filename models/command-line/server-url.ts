/** A server's address as users write it, for every command that asks one. */
import { InvalidArgumentError } from "commander";

/** Without `/v1` and without a slash at the end; `http://` where it is left out. */
export function serverUrl(text: string): string {
  const whole = text.includes("://") ? text : `http://${text}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new InvalidArgumentError("Expected an http or https URL such as http://127.0.0.1:9338.");
  }
  return (url.origin + url.pathname).replace(/\/+$/, "").replace(/\/v1$/, "");
}
