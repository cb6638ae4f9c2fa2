/** A JSON Schema that is not enforced as asked: where, which keyword, and why. */

export class SchemaError extends Error {
  override readonly name = "SchemaError";
  /** Where in the schema, as in "properties.tags.items"; "" is the root. */
  readonly path: string;
  readonly keyword: string;

  /** @param message What comes behind "In context=(…), ". */
  constructor(path: readonly string[], keyword: string, message: string) {
    super(`In context=(${path.map((step) => `'${step}'`).join(", ")}), ${message}`);
    this.path = path.join(".");
    this.keyword = keyword;
  }
}
