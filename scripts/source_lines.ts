/**
 * Writes, beside each bundle, which source line each of its lines comes from.
 *
 * A build script. The bundler's source maps are some megabytes and know columns and names; a log needs lines only.
 *
 * @module
 */
import { SourceMap } from "node:module";
import { join, relative, resolve } from "node:path";
import { LINES_SUFFIX, type SourceLines } from "@vmm/log/source_lines.ts";

const MAP_SUFFIX = ".map";

/** Replaces every source map in `bundles` by the lines it tells. @param root top of the project */
export async function replaceSourceMaps(bundles: string, root: string): Promise<void> {
  for await (const { name } of Deno.readDir(bundles)) {
    if (!name.endsWith(MAP_SUFFIX)) continue;
    const map = join(bundles, name);
    const bundle = map.slice(0, -MAP_SUFFIX.length);
    const lines = sourceLines(await Deno.readTextFile(map), await Deno.readTextFile(bundle), bundles, root);
    await Deno.writeTextFile(`${bundle}${LINES_SUFFIX}`, JSON.stringify(lines));
    await Deno.remove(map);
  }
}

/** The lines of one bundle. Paths of `map` are relative to `bundles`. */
export function sourceLines(map: string, bundle: string, bundles: string, root: string): SourceLines {
  const sourceMap = new SourceMap(JSON.parse(map));
  const indices = new Map<string, number>();
  const lines: number[] = [];
  for (const [index, text] of bundle.split("\n").entries()) {
    const entry = sourceMap.findEntry(index, Math.max(text.search(/\S/), 0));
    // What the bundler adds has no entry of its own: the last one of an earlier line is found.
    if (!("originalSource" in entry) || entry.generatedLine !== index) {
      lines.push(-1, 0);
      continue;
    }
    const path = relative(root, resolve(bundles, entry.originalSource));
    if (!indices.has(path)) indices.set(path, indices.size);
    lines.push(indices.get(path)!, entry.originalLine + 1);
  }
  return { sources: [...indices.keys()], lines };
}
