/** llama.cpp's own grammar engine, for comparison with ours. */

export interface RuntimeGrammar {
  isTextCompatible(text: string): boolean;
}

/** @returns Makes grammars; what it returns throws for a text that llama.cpp does not take as a grammar. */
export async function runtimeGrammars(): Promise<(text: string) => RuntimeGrammar> {
  // oxlint-disable-next-line no-restricted-imports -- the native grammar engine is what our own is compared with
  const { getLlama } = await import("node-llama-cpp");
  const llama = await getLlama({ gpu: false, build: "never", logger: () => undefined });
  const bindings: unknown = Reflect.get(llama, "_bindings");
  if (typeof bindings !== "object" || bindings === null) throw new Error("no bindings");
  const { AddonGrammar } = bindings as {
    AddonGrammar: new (
      text: string,
      options: { addonExports: unknown; rootRuleName: string },
    ) => RuntimeGrammar;
  };
  return (text) => new AddonGrammar(text, { addonExports: bindings, rootRuleName: "root" });
}
