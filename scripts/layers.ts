/**
 * The import rules as data and pure functions: which file may import which.
 *
 * For `deps_check.ts`. The rules are explained in ARCHITECTURE.md ("Layers").
 *
 * @module
 */

import { dirname } from "node:path";
import { isTestCode } from "./source_tree.ts";

/** An import statement, or a dynamic import of a constant. Paths are relative to the root; `npm:` names stay. */
export interface Edge {
  from: string;
  to: string;
}

/** Folder (or file) prefix → layer. The first that matches counts. */
const LAYERS: [prefix: string, layer: number][] = [
  ["ffi/", 0],
  ["schemas/", 0],
  ["src/base/", 0],
  ["src/errors/", 0],
  ["src/log/", 1],
  ["src/sync/", 1],
  ["src/memory/", 2],
  ["src/hypervisor/", 2],
  ["src/arch/", 2],
  ["src/bus/", 3],
  ["src/pci/", 3],
  ["src/virtio/", 3],
  ["src/devices/", 4],
  ["src/backends/", 4],
  ["src/machine/", 5],
  ["src/api/", 6],
  ["src/cli/", 6],
  ["src/remote/", 6],
  ["src/client/", 6],
  ["src/embed/", 6],
  ["src/main.ts", 7],
  ["mod.ts", 7],
];
const TOP_LAYER = 7;
const SIBLINGS_LAYER = 4;

/** What may import `ffi/` at all. */
const FFI_USERS = [
  "ffi/",
  "src/hypervisor/",
  "src/memory/",
  "src/log/",
  "src/backends/",
  "src/machine/",
  "src/api/http1/",
  "src/remote/",
  "src/embed/",
  "src/main.ts",
];

/** Narrower than the layers: for files below the key, only these prefixes (and their own folder) may be imported. */
const ONLY: [prefix: string, allowed: string[]][] = [
  ["ffi/", ["ffi/", "src/base/", "src/errors/"]],
  ["schemas/", ["schemas/", "src/base/", "src/errors/", "npm:zod"]],
  ["src/base/", ["src/base/"]],
  ["src/errors/", ["src/errors/", "src/base/"]],
];

/** Layer of a file, or undefined for one that has none (tests, scripts). */
export function layerOf(path: string): number | undefined {
  return LAYERS.find(([prefix]) => path.startsWith(prefix))?.[1];
}

/** Why the import breaks a rule, or undefined if it is fine. */
export function violation({ from, to }: Edge): string | undefined {
  if (isTestCode(from) || from.startsWith("scripts/")) return undefined;
  if (to.startsWith("node:")) return undefined;
  if (isTestCode(to) || to.startsWith("scripts/")) return "the program may not import tests or scripts";
  const narrow = ONLY.find(([prefix]) => from.startsWith(prefix));
  if (narrow && !narrow[1].some((prefix) => to.startsWith(prefix))) {
    return `${narrow[0]} may import only ${narrow[1].join(", ")}`;
  }
  if (to.startsWith("npm:")) return undefined;
  if (to.startsWith("ffi/") && !FFI_USERS.some((prefix) => from.startsWith(prefix))) {
    return "this folder may not import ffi/";
  }
  if (from.startsWith("src/devices/") && to.startsWith("schemas/")) {
    return "devices are given plain values, they import no schemas";
  }
  const [fromLayer, toLayer] = [layerOf(from), layerOf(to)];
  if (fromLayer === undefined) return "this file belongs to no layer: add its folder to scripts/layers.ts";
  if (toLayer === undefined) return "the imported file belongs to no layer";
  if (toLayer > fromLayer) return `layer ${fromLayer} may not import layer ${toLayer}`;
  if (fromLayer === TOP_LAYER) return undefined;
  if (fromLayer === SIBLINGS_LAYER && toLayer === SIBLINGS_LAYER && !related(from, to)) {
    return "siblings inside layer 4 may not import each other";
  }
  return undefined;
}

/** True if one file's folder holds the other's (then one is the shared part of the other's family). */
function related(a: string, b: string): boolean {
  const [first, second] = [`${dirname(a)}/`, `${dirname(b)}/`];
  return first.startsWith(second) || second.startsWith(first);
}

/** One import cycle per strongly connected group of files, as the list of files; empty if there is none. */
export function findCycles(edges: Edge[]): string[][] {
  const next = new Map<string, string[]>();
  for (const { from, to } of edges) next.set(from, [...(next.get(from) ?? []), to]);
  const done = new Set<string>();
  const path: string[] = [];
  const cycles: string[][] = [];
  const visit = (file: string): void => {
    const at = path.indexOf(file);
    if (at >= 0) {
      cycles.push(path.slice(at));
      return;
    }
    if (done.has(file)) return;
    path.push(file);
    for (const target of next.get(file) ?? []) visit(target);
    path.pop();
    done.add(file);
  };
  for (const file of next.keys()) visit(file);
  return cycles;
}
