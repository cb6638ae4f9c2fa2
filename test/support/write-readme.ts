/** `npm run docs`: writes the table of request fields into the README. */
import { readFileSync, writeFileSync } from "node:fs";
import { withFieldTable } from "./readme.ts";

writeFileSync("README.md", withFieldTable(readFileSync("README.md", "utf8")));
