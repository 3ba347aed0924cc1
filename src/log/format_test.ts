import assert from "node:assert/strict";
import { DEFAULT_FORMAT, type LogRecord, parseFormat } from "./format.ts";

const record: LogRecord = {
  level: "WARN",
  message: "text {msg}",
  uptimeUs: 92,
  wallUs: Date.UTC(2026, 10, 23, 0, 45, 23) * 1000 + 260_034,
  localOffsetMinutes: -150,
  pid: 7,
  tid: 8,
  thread: "main",
  location: () => "src/x.ts:3",
};

Deno.test("parseFormat() renders the default line", () => {
  assert.equal(
    parseFormat(DEFAULT_FORMAT)(record),
    "cloud-hypervisor:   0.000092s: <main> WARN:src/x.ts:3 -- text {msg}",
  );
});

Deno.test("parseFormat() renders every UTC token", () => {
  const tokens =
    "{wallclock}|{glog}|{pid}|{tid}|{levelchar}|{year}|{month}|{day}|{hour}|{minute}|{second}|{micros}|{offset}";
  assert.equal(
    parseFormat(tokens)(record),
    "2026-11-23T00:45:23.260034Z|1123 00:45:23.260034|7|8|W|2026|11|23|00|45|23|260034|+00:00",
  );
});

Deno.test("parseFormat() shifts local tokens by the offset, over midnight", () => {
  const tokens = "{localglog}|{localyear}|{localmonth}|{localday}|{localhour}|{localminute}|{localoffset}";
  assert.equal(parseFormat(tokens)(record), "1122 22:15:23.260034|2026|11|22|22|15|-02:30");
});

Deno.test("parseFormat() keeps doubled braces and refuses broken templates", () => {
  assert.equal(parseFormat("x{{y}}{level}")(record), "x{y}WARN");
  assert.throws(() => parseFormat("{foo}"), { message: "Unknown format token '{foo}'" });
  assert.throws(() => parseFormat("{}"), { message: "Unknown format token '{}'" });
  assert.throws(() => parseFormat("{toString}"), { message: "Unknown format token '{toString}'" });
  assert.throws(() => parseFormat("a{"), { message: "Unterminated '{' in format string" });
  assert.throws(() => parseFormat("a}"), { message: "Unmatched '}' in format string" });
});
