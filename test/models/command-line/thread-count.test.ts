import { describe, expect, it } from "vitest";
import { threadsWarning } from "../../../models/command-line/thread-count.ts";

describe("a number of threads", () => {
  it.each([
    [undefined, 2],
    [1, 2],
    [2, 2],
  ])("%s is none to warn of on %i cores", (threads, cores) => {
    expect(threadsWarning(threads, cores)).toBeUndefined();
  });

  it.each([
    [3, 2, "--threads 3 is more than the 2 cores that there are:", "leave it out or take at most 2"],
    [2, 1, "--threads 2 is more than the 1 core that there is:", "leave it out or take at most 1"],
  ])("%i is too large for %i cores", (threads, cores, problem, advice) => {
    const warning = threadsWarning(threads, cores);
    expect(warning?.slice(0, problem.length)).toBe(problem);
    expect(warning?.slice(-advice.length)).toBe(advice);
  });
});
