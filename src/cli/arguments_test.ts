import assert from "node:assert/strict";
import { inspect } from "node:util";
import { type OptionSpec, scanArguments, type UsageFault } from "./arguments.ts";

const OPTIONS: readonly OptionSpec[] = [
  { name: "disk", arity: "list" },
  { name: "kernel", arity: "one" },
  { name: "rtc", arity: "optional" },
  { name: "landlock", arity: "flag" },
  { name: "seccomp", arity: "one", choices: ["true", "false"] },
  { name: "verbose", short: "v", arity: "count" },
  { name: "version", short: "V", arity: "flag" },
];

function values(...argv: string[]): Record<string, readonly string[]> {
  const scan = scanArguments(argv, OPTIONS);
  assert(scan.kind === "parsed", inspect(scan));
  return Object.fromEntries(scan.values);
}

function fault(...argv: string[]): UsageFault {
  const scan = scanArguments(argv, OPTIONS);
  assert(scan.kind === "fault", inspect(scan));
  return scan.fault;
}

Deno.test("a list takes all words up to the next option, and may be repeated", () => {
  assert.deepEqual(values("--disk", "a", "b", "--kernel", "k", "--disk", "c"), {
    disk: ["a", "b", "c"],
    kernel: ["k"],
  });
  assert.deepEqual(values("--disk", "-", ""), { disk: ["-", ""] });
});

Deno.test("an attached value is the only one", () => {
  assert.deepEqual(values("--disk=a=b", "--kernel="), { disk: ["a=b"], kernel: [""] });
  assert.deepEqual(fault("--disk=a", "b"), { kind: "unexpected", argument: "b", given: ["disk"] });
});

Deno.test("flags, counts and optional values", () => {
  assert.deepEqual(values("-vvV", "-v", "--landlock"), {
    verbose: ["", "", ""],
    version: [""],
    landlock: [""],
  });
  assert.deepEqual(values("--rtc", "--kernel", "k"), { rtc: [""], kernel: ["k"] });
  assert.deepEqual(values("--rtc", "id=x"), { rtc: ["id=x"] });
  assert.deepEqual(values("--kernel=-x"), { kernel: ["-x"] });
});

Deno.test("help wins unless an error comes before", () => {
  for (const argv of [["-h"], ["--help"], ["-vh"], ["--disk", "a", "--help", "--nonsense"]]) {
    assert.equal(scanArguments(argv, OPTIONS).kind, "help");
  }
  assert.equal(fault("--nonsense", "--help").kind, "unexpected");
});

Deno.test("faults name what is wrong", () => {
  assert.deepEqual(fault("--landlock", "--nonsense=1"), {
    kind: "unexpected",
    argument: "--nonsense",
    given: ["landlock"],
  });
  assert.deepEqual(fault("-v3"), { kind: "unexpected", argument: "-3", given: ["verbose"] });
  assert.deepEqual(fault("word"), { kind: "unexpected", argument: "word", given: [] });
  assert.deepEqual(fault("--kernel", "a", "--", "b"), {
    kind: "unexpected",
    argument: "b",
    given: ["kernel"],
  });
  assert.equal(fault("--kernel", "--disk", "a").kind, "value-missing");
  assert.equal(fault("--disk").kind, "value-missing");
  assert.deepEqual(fault("--kernel", "-x"), { kind: "unexpected", argument: "-x", given: [] });
  assert.equal(fault("--kernel", "a", "--kernel", "b").kind, "repeated");
  assert.equal(fault("--landlock", "--landlock").kind, "repeated");
  assert.equal(fault("--landlock=1").kind, "value-unexpected");
  assert.equal(fault("--seccomp", "maybe").kind, "value-unknown");
});

Deno.test("stopAtWord leaves the first word and all that follows", () => {
  const scan = scanArguments(["--kernel", "k", "info", "--disk"], OPTIONS, true);
  assert(scan.kind === "parsed");
  assert.deepEqual(scan.rest, ["info", "--disk"]);
});
