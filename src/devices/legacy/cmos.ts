/**
 * CMOS memory and real-time clock: UTC in BCD, memory sizes for old firmware, reset by index 0x8f.
 *
 * L4, runs in vCPU Workers. The clock cannot be set: it always shows the host's time.
 * Source: MC146818 data sheet; spec/machine-model.md §2 (ports 0x70/0x71).
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";
import type { PowerControl } from "./power_control.ts";
import type { TimeSource } from "./time_source.ts";

/** First port and number of ports. */
export const CMOS_PORT = 0x70;
export const CMOS_PORT_COUNT = 2;

const DATA_BYTES = 128;
const INDEX_MASK = 0x7f;
const OFFSET_INDEX = 0;
const OFFSET_DATA = 1;

const REG = {
  seconds: 0x00,
  minutes: 0x02,
  hours: 0x04,
  dayOfWeek: 0x06,
  dayOfMonth: 0x07,
  month: 0x08,
  year: 0x09,
  statusA: 0x0a,
  statusD: 0x0d,
  century: 0x32,
  /** RAM between 16 MiB and 4 GiB in units of 64 KiB, low byte first. */
  lowMemory: 0x34,
  /** RAM above 4 GiB in units of 64 KiB, three bytes, low byte first. */
  highMemory: 0x5b,
} as const;

/** Shutdown status with NMI disabled: writing zero through this index resets the machine. */
const INDEX_SHUTDOWN_STATUS = 0x8f;
const STATUS_A_32KHZ = 1 << 5;
const STATUS_A_UPDATE_IN_PROGRESS = 1 << 7;
const STATUS_D_POWER_GOOD = 1 << 7;

const US_PER_SECOND = 1e6;
/** The update-in-progress flag is up during the last 8 ticks of 32768 Hz of each second. */
const UPDATE_US = (8 / 32768) * US_PER_SECOND;
const SECONDS_PER_DAY = 86_400;
const MEMORY_UNIT_BYTES = 0x1_0000;
const LOW_MEMORY_START = 0x100_0000;

/** Selected index and the 128 bytes. */
export const CmosBlock = defineBlock("cmos", { index: "u32", data: { u8: DATA_BYTES } });
export type CmosState = BlockOf<typeof CmosBlock>;

/** A new block that tells firmware how much RAM there is below and above 4 GiB, in bytes. */
export function createCmos(lowMemoryBytes: number, highMemoryBytes: number): CmosState {
  const state = CmosBlock.create();
  const units = (bytes: number, max: number) =>
    Math.min(max, Math.floor(Math.max(0, bytes) / MEMORY_UNIT_BYTES));
  const low = units(lowMemoryBytes - LOW_MEMORY_START, 0xffff);
  const high = units(highMemoryBytes, 0xff_ffff);
  state.data[REG.lowMemory] = low & 0xff;
  state.data[REG.lowMemory + 1] = low >> 8;
  state.data[REG.highMemory] = high & 0xff;
  state.data[REG.highMemory + 1] = (high >> 8) & 0xff;
  state.data[REG.highMemory + 2] = high >> 16;
  return state;
}

/** Ports 0x70 and 0x71. */
export class Cmos implements IoDevice {
  constructor(
    private readonly state: CmosState,
    private readonly time: TimeSource,
    private readonly power: PowerControl,
  ) {}

  read(offset: number, size: number): number {
    if (size !== 1) return 0;
    if (offset === OFFSET_INDEX) return this.state.index;
    return this.#readRegister(this.state.index & INDEX_MASK);
  }

  write(offset: number, size: number, value: number): void {
    if (size !== 1) return;
    if (offset === OFFSET_INDEX) {
      this.state.index = value;
    } else if (offset === OFFSET_DATA) {
      const index = this.state.index;
      if (index === INDEX_SHUTDOWN_STATUS && value === 0) this.power.reset();
      else this.state.data[index & INDEX_MASK] = value;
    }
  }

  #readRegister(register: number): number {
    const now = this.time.realtimeUs();
    const seconds = Math.floor(now / US_PER_SECOND);
    const days = Math.floor(seconds / SECONDS_PER_DAY);
    const second = seconds - days * SECONDS_PER_DAY;
    switch (register) {
      case REG.seconds:
        return bcd(second % 60);
      case REG.minutes:
        return bcd(Math.floor(second / 60) % 60);
      case REG.hours:
        return bcd(Math.floor(second / 3600));
      case REG.dayOfWeek:
        return bcd(dayOfWeek(days));
      case REG.dayOfMonth:
        return bcd(civilDay(days));
      case REG.month:
        return bcd(civilMonth(days));
      case REG.year:
        return bcd(civilYear(days) % 100);
      case REG.century:
        return bcd(Math.floor(civilYear(days) / 100));
      case REG.statusA:
        return STATUS_A_32KHZ |
          (now - seconds * US_PER_SECOND >= US_PER_SECOND - UPDATE_US ? STATUS_A_UPDATE_IN_PROGRESS : 0);
      case REG.statusD:
        return STATUS_D_POWER_GOOD;
      default:
        return this.state.data[register];
    }
  }
}

function bcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}

/** 1 (Sunday) to 7; day 0 was a Thursday. */
function dayOfWeek(days: number): number {
  return (days + 4) % 7 + 1;
}

// Gregorian calendar from a day count, with years starting in March so that the leap day is the last one. Three
// functions instead of one that returns a structure: nothing is allocated.

/** Days from 0000-03-01 to 1970-01-01. */
const EPOCH_FROM_MARCH_0000 = 719_468;
const DAYS_PER_ERA = 146_097;

function dayOfEra(days: number): number {
  return (days + EPOCH_FROM_MARCH_0000) % DAYS_PER_ERA;
}

function yearOfEra(day: number): number {
  return Math.floor(
    (day - Math.floor(day / 1460) + Math.floor(day / 36_524) - Math.floor(day / 146_096)) / 365,
  );
}

/** Day of the year that starts on 1 March. */
function dayOfYear(days: number): number {
  const day = dayOfEra(days);
  const year = yearOfEra(day);
  return day - (365 * year + Math.floor(year / 4) - Math.floor(year / 100));
}

/** 0 for March to 11 for February. */
function marchMonth(days: number): number {
  return Math.floor((5 * dayOfYear(days) + 2) / 153);
}

function civilDay(days: number): number {
  return dayOfYear(days) - Math.floor((153 * marchMonth(days) + 2) / 5) + 1;
}

function civilMonth(days: number): number {
  const month = marchMonth(days);
  return month < 10 ? month + 3 : month - 9;
}

function civilYear(days: number): number {
  const era = Math.floor((days + EPOCH_FROM_MARCH_0000) / DAYS_PER_ERA);
  return yearOfEra(dayOfEra(days)) + era * 400 + (marchMonth(days) < 10 ? 0 : 1);
}
