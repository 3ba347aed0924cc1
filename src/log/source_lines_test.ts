import assert from "node:assert/strict";
import { LINES_SUFFIX, sourceLine, type SourceLines, withSourceLines } from "./source_lines.ts";

Deno.test("sourceLine() knows where lines of a bundle come from, if somebody wrote it down", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const bundle = `${directory}/main.js`;
    const lines: SourceLines = { sources: ["src/a.ts", "src/b.ts"], lines: [-1, 0, 1, 7, 0, 3] };
    await Deno.writeTextFile(`${bundle}${LINES_SUFFIX}`, JSON.stringify(lines));
    assert.deepEqual([0, 1, 2, 3, 4].map((line) => sourceLine(bundle, line)), [
      undefined,
      undefined,
      "src/b.ts:7",
      "src/a.ts:3",
      undefined,
    ]);
    assert.equal(sourceLine(`${directory}/other.js`, 2), undefined);
    assert.equal(
      withSourceLines(
        `Error: no\n    at f (file://${bundle}:3:5)\n    at file://${bundle}:2:11\n    at g (ext:core/x.js:1:1)`,
      ),
      "Error: no\n    at f (src/a.ts:3)\n    at src/b.ts:7\n    at g (ext:core/x.js:1:1)",
    );
    await Deno.writeTextFile(`${directory}/odd.js${LINES_SUFFIX}`, "[");
    assert.equal(withSourceLines(`at file://${directory}/odd.js:1:1`), `at file://${directory}/odd.js:1:1`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
