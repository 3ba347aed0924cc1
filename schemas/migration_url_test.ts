import assert from "node:assert/strict";
import { parseMigrationUrl } from "@schemas/migration_url.ts";

const details = (url: string) => {
  const parsed = parseMigrationUrl(url);
  return parsed.kind === "fault" ? parsed.details : undefined;
};

Deno.test("parseMigrationUrl() reads both schemes", () => {
  assert.deepEqual(parseMigrationUrl("unix:/run/x"), { kind: "unix", path: "/run/x" });
  assert.deepEqual(parseMigrationUrl("tcp:host:00080"), { kind: "tcp", host: "host", port: 80 });
  assert.deepEqual(parseMigrationUrl("tcp:[::1]:+81"), { kind: "tcp", host: "::1", port: 81 });
  assert.deepEqual(parseMigrationUrl("tcp:::1"), { kind: "tcp", host: ":", port: 1 });
});

Deno.test("parseMigrationUrl() tells what is wrong with an address", () => {
  assert.deepEqual(details("tcp:1"), ["Missing TCP port"]);
  assert.deepEqual(details("tcp::"), ["Host must not be empty"]);
  assert.deepEqual(details("tcp:a:"), ["Port must not be empty"]);
  assert.deepEqual(details("tcp:a:65536"), [
    "Invalid TCP port: 65536",
    "number too large to fit in target type",
  ]);
  assert.deepEqual(details("tcp:a:-1"), ["Invalid TCP port: -1", "invalid digit found in string"]);
  assert.deepEqual(details("tcp:[::1"), ["Missing closing ']' for bracketed IPv6 address"]);
  assert.deepEqual(details("tcp:[::1]x:1"), ["Missing port separator after bracketed host"]);
});

Deno.test("parseMigrationUrl() knows no other scheme", () => {
  for (const url of ["", "unix:", "file:///x", "TCP:a:1"]) {
    assert.deepEqual(parseMigrationUrl(url), { kind: "fault", reason: "scheme", details: [] });
  }
});
