/**
 * A strict reader of Prometheus' text format 0.0.4, as `promtool check metrics` reads it.
 *
 * Test framework.
 *
 * @module
 */

/** One metric with its samples. */
export interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: { name: string; labels: Record<string, string>; value: number }[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/gy;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const NUMBER = /^[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf|NaN)$/i;
const UNITS = /_(milliseconds|microseconds|ms|us|kib|mib|kb|mb)(_|$)/i;

/** Reads an exposition. @throws Error naming the line that breaks a rule */
export function readExposition(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("The last line has no end");
  const families = new Map<string, Family>();
  let current: string | undefined;
  let help: string | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    const fail = (why: string): never => {
      throw new Error(`${why}: ${line}`);
    };
    const head = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (head?.[1] === "HELP") {
      if (!NAME.test(head[2])) fail("A name that is none");
      if (families.has(head[2])) fail("A metric in two places");
      [, , current, help] = head;
    } else if (head?.[1] === "TYPE") {
      if (head[2] !== current || help === undefined) fail("A type without its help");
      if (!/^(counter|gauge|histogram)$/.test(head[3])) fail("An unknown type");
      if ((head[3] === "counter") !== head[2].endsWith("_total")) fail("_total is for counters, all of them");
      if (UNITS.test(head[2])) fail("Not a base unit");
      families.set(head[2], { type: head[3], help: help!, samples: [] });
    } else {
      const sample = SAMPLE.exec(line) ?? fail("Not a sample");
      const [, name, labelText = "", value] = sample;
      const family = families.get(current ?? "") ?? fail("A sample before its metric");
      const own = family.type === "histogram" ? name.replace(/_(bucket|sum|count)$/, "") : name;
      if (own !== current) fail("A sample of another metric");
      if (!NUMBER.test(value)) fail("Not a number");
      const labels: Record<string, string> = {};
      LABEL.lastIndex = 0;
      let end = 0;
      for (let match = LABEL.exec(labelText); match !== null; match = LABEL.exec(labelText)) {
        labels[match[1]] = match[2].replace(/\\(.)/g, (_, char) => char === "n" ? "\n" : char);
        end = LABEL.lastIndex;
      }
      if (end !== labelText.length) fail("Labels that are not quoted as they should be");
      const key = JSON.stringify([name, labels]);
      if (family.samples.some((other) => JSON.stringify([other.name, other.labels]) === key)) {
        fail("Said twice");
      }
      family.samples.push({ name, labels, value: Number(value.replace("Inf", "Infinity")) });
    }
  }
  for (const [name, family] of families) if (family.type === "histogram") checkHistogram(name, family);
  return families;
}

/** Buckets grow, and the last is the count. */
function checkHistogram(name: string, { samples }: Family): void {
  const series = Map.groupBy(samples, ({ labels: { le: _, ...rest } }) => JSON.stringify(rest));
  for (const [labels, all] of series) {
    const buckets = all.filter((sample) => sample.name === `${name}_bucket`);
    const count = all.find((sample) => sample.name === `${name}_count`)?.value;
    const bounds = buckets.map(({ labels: { le } }) => Number(le.replace("Inf", "Infinity")));
    const sorted = (list: number[]) => list.every((value, index) => index === 0 || value >= list[index - 1]);
    const fine = sorted(bounds) && sorted(buckets.map(({ value }) => value)) && bounds.at(-1) === Infinity &&
      buckets.at(-1)?.value === count && all.some((sample) => sample.name === `${name}_sum`);
    if (!fine) throw new Error(`The histogram ${name}${labels} does not add up`);
  }
}
