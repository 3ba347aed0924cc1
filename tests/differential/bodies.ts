/**
 * Request bodies made from the schemas: valid ones, and ones damaged in every way a client could.
 *
 * Tests only. Deterministic for a seed.
 */
import type * as z from "zod";
import { type FieldPlan, type Plan, planOf } from "@schemas/json/plan.ts";

/** Small deterministic generator (mulberry32). */
export class Random {
  constructor(private state: number) {}

  /** 0 ≤ result < 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  }

  /** Integer 0 ≤ result < `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  /** One of `items`. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }
}

// Values with side effects that outlive the request in the original: files, sockets, terminals, a sandbox.
const KEPT_AT_DEFAULT = new Set(["landlock_enable"]);
const HARMLESS_CONSOLE_MODES = ["Off", "Null", "Tty"];

const STRINGS = [
  "",
  "a",
  "disk0",
  "/dev/null",
  'quo"te',
  "back\\slash",
  "tab\t",
  "é",
  "\u{1f600}",
  "\u007f",
  "x y",
];
const SMALL = ["0", "1", "2", "3", "17", "255"];
const RANGES: Readonly<Record<string, readonly string[]>> = {
  u8: SMALL,
  u16: [...SMALL, "256", "65535"],
  u32: [...SMALL, "65536", "4294967295"],
  u64: [...SMALL, "9007199254740993", "18446744073709551615"],
  usize: [...SMALL, "4294967296"],
  i32: ["0", "-1", "-2147483648", "2147483647"],
  "nonzero u32": ["1", "4294967295"],
  "nonzero u64": ["1", "18446744073709551615"],
  boolean: ["true", "false"],
};

/** JSON text of a random valid value of `schema`. */
export function validBody(schema: z.ZodType, random: Random): string {
  return valid(planOf(schema), random, "");
}

function valid(plan: Plan, random: Random, name: string): string {
  switch (plan.kind) {
    case "scalar":
      return scalarText(plan.scalar, plan.big, random);
    case "descriptor":
      return random.pick(RANGES.i32);
    case "enum": {
      const variants = plan.variants.includes("Tty") ? HARMLESS_CONSOLE_MODES : plan.variants;
      const variant = JSON.stringify(random.pick(variants));
      return random.chance(0.1) ? `{${variant}:null}` : variant;
    }
    case "list":
      return `[${Array.from({ length: random.below(3) }, () => valid(plan.item, random, name)).join(",")}]`;
    case "struct": {
      const byPosition = plan.groups.length === 0 && random.chance(0.1);
      if (byPosition) return `[${plan.fields.map((field) => fieldText(field, random)).join(",")}]`;
      const members = plan.fields.filter((field) => isWanted(field, random))
        .map((field) => `${JSON.stringify(field.name)}:${fieldText(field, random)}`);
      if (random.chance(plan.denyUnknown ? 0.02 : 0.2)) {
        members.push(`"unknown":{"deep":[1,{"x":null}],"s":"\\u00e9"}`);
      }
      shuffle(members, random);
      return `{${members.join(",")}}`;
    }
    case "record":
    case "tagged":
      throw new TypeError(`Nothing to generate for ${plan.kind}`);
  }
}

function isWanted(field: FieldPlan, random: Random): boolean {
  if (KEPT_AT_DEFAULT.has(field.name)) return false;
  return (!field.optional && field.makeDefault === undefined) || random.chance(0.4);
}

function fieldText(field: FieldPlan, random: Random): string {
  if (KEPT_AT_DEFAULT.has(field.name)) return "false";
  return field.optional && random.chance(0.2) ? "null" : valid(field.plan, random, field.name);
}

function scalarText(scalar: string, big: boolean, random: Random): string {
  if (scalar === "mac") return random.pick(['"aa:bb:CC:dd:ee:ff"', '"2e:00:00:00:00:01"']);
  if (scalar === "ip") return random.pick(['"192.168.1.1"', '"2001:DB8:0:0::1"', '"::"', '"::ffff:1.2.3.4"']);
  const choices = RANGES[scalar];
  if (choices === undefined) return JSON.stringify(random.pick(STRINGS));
  // Sizes are added up by the original without regard to overflow; a random sum must stay in range.
  if (big) return random.pick(choices.slice(0, -1));
  // Counts above 2^53 are refused here and not there.
  return random.pick(
    choices.filter((choice) =>
      choice === "true" || choice === "false" || Number.isSafeInteger(Number(choice))
    ),
  );
}

function shuffle<T>(items: T[], random: Random): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
}

const WRONG_VALUES = [
  "null",
  "true",
  "false",
  "-1",
  "0",
  "1.5",
  "1e3",
  "-0",
  "01",
  "-",
  "1e999",
  "256",
  "65536",
  "4294967296",
  "18446744073709551616",
  '"x"',
  '""',
  '"\\ud800"',
  '"\\q"',
  '"a\\u0000\\n\u0301"',
  '"\\u12',
  '"\t"',
  "[]",
  "{}",
  "[1]",
  '{"a":1}',
  '{"Null":null}',
  '{"Null":1}',
  "nul",
  "truth",
  "",
  " ",
  "//",
  "'x'",
  "NaN",
];

/** `body` with one or two random faults. */
export function damagedBody(body: string, random: Random): string {
  let text = body;
  for (let faults = 1 + random.below(2); faults > 0; faults--) text = damage(text, random);
  // The sandbox of the original cannot be left again.
  return text.includes('landlock_enable":t') ? body : text;
}

function damage(text: string, random: Random): string {
  const at = random.below(text.length + 1);
  switch (random.below(8)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return text.slice(0, at) +
        random.pick([" ", "\n", "\t", ",", "}", "]", "{", "[", '"', ":", "x", "\\", "\u0001"]) +
        text.slice(at);
    case 2:
      return text.slice(0, at) + text.slice(at + 1);
    case 3:
      return replaceScalar(text, random);
    case 4:
      return replaceScalar(text, random);
    case 5:
      return duplicateMember(text, random);
    case 6:
      return text.replaceAll(random.pick([",", ":", "{", "["]), (found) => `${found}\n `);
    default:
      return text + random.pick([" ", "x", "{}", ",", "\n\n]"]);
  }
}

function replaceScalar(text: string, random: Random): string {
  const places = [...text.matchAll(/(?<=[:[,])(?:"(?:[^"\\]|\\.)*"(?!:)|[-0-9.e+]+|true|false|null)/g)];
  if (places.length === 0) return random.pick(WRONG_VALUES);
  const place = random.pick(places);
  return text.slice(0, place.index) + random.pick(WRONG_VALUES) + text.slice(place.index + place[0].length);
}

function duplicateMember(text: string, random: Random): string {
  const places = [...text.matchAll(/"[a-z_0-9]+":(?:"[^"\\]*"|[0-9]+|true|false|null)/g)];
  if (places.length === 0) return text;
  const place = random.pick(places);
  const end = place.index + place[0].length;
  return `${text.slice(0, end)},${place[0]}${text.slice(end)}`;
}
