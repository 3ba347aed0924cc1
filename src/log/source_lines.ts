/**
 * Where a line of a bundle comes from: the built program's stack traces and log lines name source files as an editor knows them.
 *
 * L1, any isolate; reads a file beside the bundle the first time one of its lines is asked for. A program that runs from its
 * sources has no such files and needs none. `scripts/source_lines.ts` writes them.
 */

/** What is added to a bundle's name. */
export const LINES_SUFFIX = ".lines";

/** Source lines of one bundle. */
export interface SourceLines {
  /** Paths from the top of the project. */
  readonly sources: readonly string[];
  /** For every line of the bundle two numbers: index into `sources` (-1: none) and line, from 1 on. */
  readonly lines: readonly number[];
}

/** A frame's place: `file:///…/name.js:line:column`. */
const PLACE = /(?:file:\/\/)?(\/[^\s()]*\.js):(\d+):\d+/g;

const known = new Map<string, SourceLines | undefined>();

/** `path:line` in the sources of a line of the bundle at `path`; undefined when that is not known. Never throws. */
export function sourceLine(path: string, line: number): string | undefined {
  if (!known.has(path)) known.set(path, read(path));
  const found = known.get(path);
  const source = found?.sources[found.lines[2 * (line - 1)]];
  return source === undefined ? undefined : `${source}:${found!.lines[2 * line - 1]}`;
}

/** A text with stack traces in it, their places named as in the sources where that is known. */
export function withSourceLines(text: string): string {
  return text.replace(PLACE, (place, path, line) => sourceLine(path, Number(line)) ?? place);
}

function read(path: string): SourceLines | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(`${path}${LINES_SUFFIX}`));
  } catch {
    // Built by other means, or it is gone: the bundle's own places will do.
    return undefined;
  }
}
