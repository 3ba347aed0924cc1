/**
 * Fails if unsafe code has no stated reason, or if system access happens where it may not.
 *
 * A check of `deno task ok`. Two rules: every line with `Deno.dlopen`, `Deno.Unsafe…` or `getArrayBuffer` outside
 * tests has a `// SAFETY:` comment above it (one comment serves directly adjacent lines); `Deno.…` is used only in
 * the folders listed here. That devices do not import `ffi/` is a rule of `deps_check.ts`.
 *
 * @module
 */

import { join } from "node:path";
import { codeOnly, isTestCode, report, ROOT, sourceFiles } from "./source_tree.ts";

// As strings: what stands in a regular expression would count as code here.
const UNSAFE = new RegExp("\\bDeno\\s*\\.\\s*(dlopen|Unsafe\\w+)|\\.getArrayBuffer\\b");
const SYSTEM = new RegExp("\\bDeno\\s*\\.\\s*\\w+");

/** Prefixes of the files that may use `Deno.…`. */
const SYSTEM_USERS = [
  /^ffi\//,
  /^scripts\//,
  /^src\/main\.ts$/,
  /^src\/log\//,
  /^src\/backends\//,
  /^src\/machine\//,
  /^src\/api\/.*serve/,
];

/** Prefixes of the files that may use `Deno.dlopen` and `Deno.Unsafe…`. */
const UNSAFE_USERS = [/^ffi\//];

if (import.meta.main) {
  const violations: string[] = [];
  let unsafeLines = 0;
  for (const path of await sourceFiles()) {
    if (isTestCode(path)) continue;
    const text = await Deno.readTextFile(join(ROOT, path));
    violations.push(...audit(path, text));
    unsafeLines += codeOnly(text).split("\n").filter((line) => UNSAFE.test(line)).length;
  }
  report("ffi audit", violations, `${unsafeLines} unsafe lines, each with its reason`);
}

/** The violations in one file that is not a test, as `path:line: reason`. */
export function audit(path: string, text: string): string[] {
  const found: string[] = [];
  const raw = text.split("\n");
  const code = codeOnly(text).split("\n");
  const mayUseSystem = SYSTEM_USERS.some((pattern) => pattern.test(path));
  const mayBeUnsafe = UNSAFE_USERS.some((pattern) => pattern.test(path));
  for (let index = 0; index < code.length; index++) {
    const at = `${path}:${index + 1}`;
    if (UNSAFE.test(code[index])) {
      if (!mayBeUnsafe) found.push(`${at}: unsafe code belongs in ffi/`);
      if (!hasReason(raw, code, index)) found.push(`${at}: no "// SAFETY:" comment above`);
    } else if (!mayUseSystem && SYSTEM.test(code[index])) {
      found.push(`${at}: ${SYSTEM.exec(code[index])![0]} may not be used in this folder`);
    }
  }
  return found;
}

/** Looks upwards: past the lines of the same statement and adjacent unsafe lines to a comment that says SAFETY. */
function hasReason(raw: string[], code: string[], index: number): boolean {
  for (let line = index - 1; line >= 0; line--) {
    const text = raw[line].trim();
    if (text.startsWith("//") || text.startsWith("*") || text.startsWith("/*")) {
      if (text.includes("SAFETY:")) return true;
      continue;
    }
    const above = code[line].trim();
    const isOtherStatement = above === "" || /[;{}]$/.test(above);
    if (isOtherStatement && !UNSAFE.test(code[line])) return false;
  }
  return false;
}
