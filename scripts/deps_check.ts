/**
 * Fails if a file imports what its layer may not, or if imports form a cycle.
 *
 * A check of `deno task ok`. Takes the import graph from `deno info --json`.
 *
 * @module
 */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Edge, findCycles, violation } from "./layers.ts";
import { report, ROOT, sourceFiles } from "./source_tree.ts";

/** The parts of `deno info --json` that are used here. */
interface ModuleGraph {
  modules: {
    specifier: string;
    error?: string;
    dependencies?: { specifier: string; code?: Resolved; type?: Resolved }[];
  }[];
}
interface Resolved {
  specifier?: string;
  error?: string;
}

if (import.meta.main) {
  const files = await sourceFiles();
  const { edges, errors } = toEdges(await moduleGraph(files));
  const violations = [
    ...errors,
    ...edges.flatMap((edge) => {
      const reason = violation(edge);
      return reason ? [`${edge.from} → ${edge.to}: ${reason}`] : [];
    }),
    ...findCycles(edges).map((cycle) => `import cycle: ${[...cycle, cycle[0]].join(" → ")}`),
  ];
  report("deps", violations, `${files.length} files, ${edges.length} imports, no violations`);
}

/** The graph of the given files and all they import, type-only imports included. */
export async function moduleGraph(files: string[]): Promise<ModuleGraph> {
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    const imports = files.map((file) => `import ${JSON.stringify(pathToFileURL(join(ROOT, file)).href)};`);
    await Deno.writeTextFile(entry, imports.join("\n"));
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--config", join(ROOT, "deno.json"), "--frozen", entry],
      env: { NO_COLOR: "1" },
    }).output();
    if (!success) throw new Error(`Cannot read the import graph: ${new TextDecoder().decode(stderr)}`);
    const graph: ModuleGraph = JSON.parse(new TextDecoder().decode(stdout));
    const own = pathToFileURL(entry).href;
    graph.modules = graph.modules.filter(({ specifier }) => specifier !== own);
    return graph;
  } finally {
    await Deno.remove(entry);
  }
}

/** Imports between files of ours and to packages, each once, and imports that do not resolve. */
export function toEdges(graph: ModuleGraph): { edges: Edge[]; errors: string[] } {
  const edges = new Map<string, Edge>();
  const errors: string[] = [];
  const root = `${pathToFileURL(ROOT).href}/`;
  const toPath = (specifier: string) =>
    specifier.startsWith(root)
      ? specifier.slice(root.length)
      : specifier.replace(/^npm:\/?([^@]+)@.*$/, "npm:$1");
  for (const module of graph.modules) {
    if (!module.specifier.startsWith(root)) continue;
    const from = toPath(module.specifier);
    if (module.error) {
      const users = graph.modules.filter(({ dependencies = [] }) =>
        dependencies.some(({ code, type }) => (code ?? type)?.specifier === module.specifier)
      );
      errors.push(
        `${from}: ${module.error} Imported by ${users.map((user) => toPath(user.specifier)).join(", ")}.`,
      );
    }
    for (const dependency of module.dependencies ?? []) {
      const resolved = dependency.code ?? dependency.type;
      if (!resolved?.specifier) {
        errors.push(`${from}: cannot resolve "${dependency.specifier}": ${resolved?.error ?? "unknown"}`);
        continue;
      }
      const to = toPath(resolved.specifier);
      edges.set(`${from} ${to}`, { from, to });
    }
  }
  return { edges: [...edges.values()], errors };
}
