/**
 * The seed of all property tests: fixed, so that a run says the same of the same tree everywhere. WEFT_SEED=random
 * looks further, WEFT_SEED=<number> repeats what a failure printed.
 */
import * as fc from "fast-check";

const wanted = process.env["WEFT_SEED"] ?? "20260801";
if (wanted !== "random") fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(wanted) });
