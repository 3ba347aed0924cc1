/**
 * Log line templates: `{token}` with `{{` and `}}` for braces.
 *
 * L1, pure. Source: spec/cli.md §4.
 */

/** Levels from the most to the least urgent; a line is written when its level is at most the configured one. */
export const LEVELS = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"] as const;
/** How urgent a line is. */
export type Level = typeof LEVELS[number];

/** The template used unless `--log-format` gives one. */
export const DEFAULT_FORMAT = "cloud-hypervisor: {boottime}s: <{thread}> {level}:{location} -- {msg}";

/** Everything a template can show of one line. */
export interface LogRecord {
  readonly level: Level;
  readonly message: string;
  /** Microseconds since the program started. */
  readonly uptimeUs: number;
  /** Wall clock in microseconds since 1970 UTC. */
  readonly wallUs: number;
  /** Minutes that local time is ahead of UTC at that moment. */
  readonly localOffsetMinutes: number;
  readonly pid: number;
  readonly tid: number;
  readonly thread: string;
  /** `file:line`; computed only if the template shows it. */
  readonly location: () => string;
}

/** A compiled template: one line without the line end. */
export type LineFormat = (record: LogRecord) => string;

const US_PER_MINUTE = 60_000_000;
const BOOTTIME_WIDTH = 10;

const two = (value: number) => String(value).padStart(2, "0");

interface CalendarTime {
  readonly date: Date;
  readonly micros: string;
  readonly offset: string;
}

function calendar(record: LogRecord, local: boolean): CalendarTime {
  const offsetMinutes = local ? record.localOffsetMinutes : 0;
  const us = record.wallUs + offsetMinutes * US_PER_MINUTE;
  const magnitude = Math.abs(offsetMinutes);
  return {
    date: new Date(Math.floor(us / 1000)),
    micros: String(us % 1_000_000).padStart(6, "0"),
    offset: `${offsetMinutes < 0 ? "-" : "+"}${two(Math.floor(magnitude / 60))}:${two(magnitude % 60)}`,
  };
}

const clock = ({ date, micros }: CalendarTime) =>
  `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}.${micros}`;

/** Tokens that exist in UTC and, with the prefix `local`, in local time. */
const CALENDAR_TOKENS: Record<string, (time: CalendarTime) => string> = {
  year: ({ date }) => String(date.getUTCFullYear()),
  month: ({ date }) => two(date.getUTCMonth() + 1),
  day: ({ date }) => two(date.getUTCDate()),
  hour: ({ date }) => two(date.getUTCHours()),
  minute: ({ date }) => two(date.getUTCMinutes()),
  second: ({ date }) => two(date.getUTCSeconds()),
  micros: ({ micros }) => micros,
  offset: ({ offset }) => offset,
  glog: (time) => `${two(time.date.getUTCMonth() + 1)}${two(time.date.getUTCDate())} ${clock(time)}`,
};

const TOKENS: Record<string, LineFormat> = {
  boottime: (record) => (record.uptimeUs / 1e6).toFixed(6).padStart(BOOTTIME_WIDTH),
  wallclock: (record) => {
    const time = calendar(record, false);
    return `${time.date.toISOString().slice(0, 10)}T${clock(time)}Z`;
  },
  pid: (record) => String(record.pid),
  tid: (record) => String(record.tid),
  thread: (record) => record.thread,
  level: (record) => record.level,
  levelchar: (record) => record.level[0],
  location: (record) => record.location(),
  msg: (record) => record.message,
};
for (const [name, render] of Object.entries(CALENDAR_TOKENS)) {
  TOKENS[name] = (record) => render(calendar(record, false));
  TOKENS[`local${name}`] = (record) => render(calendar(record, true));
}

/** Compiles a template. @throws Error for an unknown token or a brace without its partner */
export function parseFormat(template: string): LineFormat {
  const parts: (string | LineFormat)[] = [];
  let text = "";
  for (let at = 0; at < template.length; at++) {
    const character = template[at];
    if (character !== "{" && character !== "}") {
      text += character;
    } else if (template[at + 1] === character) {
      text += character;
      at++;
    } else if (character === "}") {
      throw new Error("Unmatched '}' in format string");
    } else {
      const end = template.indexOf("}", at);
      if (end < 0) throw new Error("Unterminated '{' in format string");
      const name = template.slice(at + 1, end);
      if (!Object.hasOwn(TOKENS, name)) throw new Error(`Unknown format token '{${name}}'`);
      parts.push(text, TOKENS[name]);
      text = "";
      at = end;
    }
  }
  parts.push(text);
  return (record) => {
    let line = "";
    for (const part of parts) line += typeof part === "string" ? part : part(record);
    return line;
  };
}
