/** A wrong option, in one line that says what would be right. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}
