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

Deno.test("Logger refuses a broken template with the reason as cause", () => {
  assert.throws(() => new Logger().configure({ verbosity: 0, format: "{" }), (error: Error) => {
    assert.equal(error.message, "Error parsing logger format");
    assert.equal((error.cause as Error).message, "Unterminated '{' in format string");
    return true;
  });
});
