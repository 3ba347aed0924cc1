import assert from "node:assert/strict";
import { Logger } from "./logger.ts";

function capture(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const logger = new Logger({ write: (bytes) => lines.push(new TextDecoder().decode(bytes)) });
  return { logger, lines };
}

Deno.test("Logger writes warnings and errors until told to write more", () => {
  const { logger, lines } = capture();
  logger.info("no");
  logger.warn("yes");
  logger.configure({ verbosity: 2 });
  logger.debug("yes");
  logger.trace("no");
  logger.configure({ verbosity: 9 });
  logger.trace("yes");
  assert.equal(lines.length, 3);
});

Deno.test("Logger names the file and line of its caller", () => {
  const { logger, lines } = capture();
  logger.configure({ verbosity: 0, format: "{location} {msg}" });
  logger.error("here");
  logger.limited("WARN", "key", "there");
  assert.match(lines[0], /^src\/log\/logger_test\.ts:\d+ here\n$/);
  assert.match(lines[1], /^src\/log\/logger_test\.ts:\d+ there\n$/);
});

Deno.test("Logger limits lines by key and tells how many it left out", () => {
  const { logger, lines } = capture();
  for (let i = 0; i < 1000; i++) logger.limited("WARN", "a", "again");
  logger.limited("WARN", "b", "other");
  assert.equal(lines.length, 11);
  assert.match(lines[10], /other\n$/);
});

Deno.test("Logger tells of lines it left out when no other line does, and at the end", () => {
  let now = 0;
  const lines: string[] = [];
  const logger = new Logger({ write: (bytes) => lines.push(new TextDecoder().decode(bytes)) }, () => now);
  logger.configure({ verbosity: 1, format: "{level} {msg}" });
  for (let i = 0; i < 1000; i++) logger.limited("INFO", "a", `fault ${i}`);
  logger.tellOwed();
  assert.equal(lines.length, 10);
  now = 1_000;
  logger.tellOwed();
  logger.tellOwed(true);
  assert.deepEqual(lines.slice(10), ["INFO fault 999 (989 more like this not shown)\n"]);
  logger.limited("WARN", "a", "last", 5);
  logger.tellOwed(true);
  logger.tellOwed(true);
  assert.deepEqual(lines.slice(11), ["WARN last (5 more like this not shown)\n"]);
});

Deno.test("Logger goes on in a file that is cut short, and in one that is named again", async () => {
  const directory = await Deno.makeTempDir();
  const [file, other] = [`${directory}/log`, `${directory}/other`];
  const open = () =>
    [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
      try {
        return Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith(directory);
      } catch {
        return false; // the one that lists them
      }
    }).length;
  const logger = new Logger();
  await Deno.writeTextFile(file, "of the last run\n");
  logger.configure({ verbosity: 0, file, format: "{msg}" });
  logger.warn("first");
  logger.configure({ verbosity: 0, file });
  logger.warn("second");
  assert.equal(await Deno.readTextFile(file), "first\nsecond\n");
  await Deno.truncate(file);
  logger.warn("third");
  assert.equal(await Deno.readTextFile(file), "third\n");
  logger.configure({ verbosity: 0, file: other });
  logger.warn("fourth");
  assert.equal(await Deno.readTextFile(other), "fourth\n");
  assert.equal(open(), 1);
  logger.configure({ verbosity: 0, file: "/dev/null" });
  logger.warn("nobody");
  await Deno.remove(directory, { recursive: true });
});

Deno.test("Logger refuses a broken template with the reason as cause", () => {
  assert.throws(() => new Logger().configure({ verbosity: 0, format: "{" }), (error: Error) => {
    assert.equal(error.message, "Error parsing logger format");
    assert.equal((error.cause as Error).message, "Unterminated '{' in format string");
    return true;
  });
});
