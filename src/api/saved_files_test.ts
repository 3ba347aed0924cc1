import assert from "node:assert/strict";
import { StateError } from "@vmm/errors/state_error.ts";
import { coredumpFile, snapshotFolder } from "./saved_files.ts";

const chainOf = (run: () => unknown): readonly string[] => {
  try {
    run();
  } catch (error) {
    if (error instanceof StateError) return error.chain();
    throw error;
  }
  return [];
};

Deno.test("snapshotFolder() takes the folder of a file URL and refuses all else in the original's words", () => {
  const folder = new URL(".", import.meta.url).pathname;
  assert.equal(snapshotFolder(`file://${folder}`, "Cannot send VM snapshot"), folder);
  const above = ["Cannot send VM snapshot", "Failed to send migratable component snapshot"];
  for (
    const [url, why] of [
      ["nonsense", "Could not extract path from URL: nonsense"],
      ['file:///non"existent', 'Destination is not a directory: "/non\\"existent"'],
      [
        import.meta.url,
        `Destination is not a directory: ${JSON.stringify(new URL(import.meta.url).pathname)}`,
      ],
    ]
  ) {
    assert.deepEqual(chainOf(() => snapshotFolder(url, above[0])), [...above, why]);
  }
});

Deno.test("coredumpFile() refuses what is no file URL and a file that is there", () => {
  assert.equal(coredumpFile("file:///nonexistent/core"), "/nonexistent/core");
  const above = ["Error coredumping VM", "coredump"];
  assert.deepEqual(chainOf(() => coredumpFile("x")), [...above, "Could not extract file from URL: x"]);
  assert.deepEqual(chainOf(() => coredumpFile(import.meta.url)), [...above, "File exists (os error 17)"]);
});
