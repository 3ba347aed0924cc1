import assert from "node:assert/strict";
import { socketPathOf } from "./serve_connection.ts";

Deno.test("socketPathOf() takes the first UNIX socket: a path, or an abstract name", () => {
  const cases: Record<string, string> = {
    "unix:path=/run/bus,guid=0123": "/run/bus",
    "unix:guid=0123,path=/run/bus": "/run/bus",
    "unix:path=/run/a%20bus": "/run/a bus",
    "unix:abstract=/tmp/dbus-x,guid=0123": "\0/tmp/dbus-x",
    "tcp:host=localhost,port=1;unix:tmpdir=/tmp;unix:path=/run/bus": "/run/bus",
  };
  for (const [addresses, path] of Object.entries(cases)) assert.equal(socketPathOf(addresses), path);
});

Deno.test("socketPathOf() names addresses it cannot use", () => {
  for (const addresses of ["", "tcp:host=localhost,port=1", "unix:tmpdir=/tmp", "path=/run/bus"]) {
    assert.throws(() => socketPathOf(addresses), { message: /^Cannot use the bus address "/ });
  }
});
