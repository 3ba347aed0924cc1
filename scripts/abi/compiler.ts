/**
 * Asks the C compiler for the values of expressions, by compiling and running one program.
 *
 * For `abi_check.ts --regenerate`. Expressions of different headers go into different units of that program: the
 * kernel's own headers do not go together with the C library's.
 *
 * @module
 */

import { join } from "node:path";
import type { Fact } from "./facts.ts";

/** The units of the program by file name. */
export function programUnits(facts: Pick<Fact, "header" | "expression">[]): Record<string, string> {
  const byHeader = Map.groupBy(facts, ({ header }) => header);
  const units: Record<string, string> = {};
  let calls = "";
  let declarations = "";
  let number = 0;
  for (const [header, members] of byHeader) {
    const name = `unit_${number++}`;
    const lines = [...new Set(members.map(({ expression }) => expression))].map((expression) =>
      `  __builtin_printf("%lld\\t%s\\n", (long long)(${cExpression(expression)}), ${
        JSON.stringify(expression)
      });`
    );
    units[`${name}.c`] = [
      "#define _GNU_SOURCE",
      "#include <stddef.h>",
      "#include <asm/ioctl.h>",
      `#include <${header}>`,
      `void ${name}(void) {`,
      ...lines,
      "}",
      "",
    ].join("\n");
    declarations += `void ${name}(void);\n`;
    calls += `  ${name}();\n`;
  }
  units["main.c"] = `${declarations}int main(void) {\n${calls}  return 0;\n}\n`;
  return units;
}

function cExpression(expression: string): string {
  return expression.replace(/^offsetof\(/, "__builtin_offsetof(");
}

/** Value of each expression; throws an Error with the compiler's messages if one does not compile. */
export async function evaluate(facts: Pick<Fact, "header" | "expression">[]): Promise<Map<string, number>> {
  const directory = await Deno.makeTempDir({ prefix: "nephos-abi-" });
  try {
    const units = programUnits(facts);
    for (const [name, text] of Object.entries(units)) await Deno.writeTextFile(join(directory, name), text);
    const program = join(directory, "program");
    await output(Deno.env.get("CC") ?? "cc", ["-O0", "-o", program, ...Object.keys(units)], directory);
    const values = new Map<string, number>();
    for (const line of (await output(program, [], directory)).trimEnd().split("\n")) {
      const [value, expression] = line.split("\t");
      values.set(expression, Number(value));
    }
    return values;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function output(program: string, args: string[], cwd: string): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args, cwd }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  if (!success) throw new Error(`"${program}" failed:\n${decode(stderr)}`);
  return decode(stdout);
}
