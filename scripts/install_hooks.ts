/**
 * Installs a pre-commit hook that runs `deno task ok`. An existing hook of another kind is left alone.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { ROOT } from "./source_tree.ts";

const HOOK = `#!/usr/bin/env bash
# Installed by scripts/install_hooks.ts.
. scripts/env.sh && use_deno && exec deno task --quiet ok
`;

const { success, stdout } = await new Deno.Command("git", {
  args: ["rev-parse", "--git-path", "hooks"],
  cwd: ROOT,
}).output();
if (!success) {
  console.error("install_hooks: this is no git checkout");
  Deno.exit(1);
}
const path = join(resolve(ROOT, new TextDecoder().decode(stdout).trim()), "pre-commit");
const existing = await Deno.readTextFile(path).catch(() => "");
if (existing !== "" && !existing.includes("scripts/install_hooks.ts")) {
  console.error(`install_hooks: ${path} is not ours; remove it first`);
  Deno.exit(1);
}
await Deno.mkdir(join(path, ".."), { recursive: true });
await Deno.writeTextFile(path, HOOK, { mode: 0o755 });
console.log(`install_hooks: ${path}`);
