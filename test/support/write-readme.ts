/** `npm run docs`: writes the generated tables into the README. */
import { readFileSync, writeFileSync } from "node:fs";
import { withTables } from "./readme.ts";

writeFileSync("README.md", withTables(readFileSync("README.md", "utf8")));
