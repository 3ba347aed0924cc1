/**
 * Methods of the CPU and memory hot-plug controllers: one CPU or slot at a time is selected, looked at, acknowledged.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §9; ACPI 6.5 §5.6.6 (device object notifications), §6.3.7 (_STA).
 */
import { type Aml, integer, path } from "./aml/encode.ts";
import {
  acquire,
  add,
  arg,
  call,
  equal,
  ifThen,
  lessThan,
  local,
  method,
  notify,
  ONE,
  release,
  returnValue,
  store,
  whileLoop,
  ZERO,
} from "./aml/terms.ts";

const NOTIFY_DEVICE_CHECK = ONE;
const NOTIFY_EJECT_REQUEST = integer(3);
/** Present, enabled, shown, functioning. */
const STATUS_PRESENT = integer(0x0f);

/** Registers of a controller, by their names in the table. All but the mutex are about what is selected. */
export interface SelectingController {
  /** Held while something is selected. */
  readonly mutex: string;
  readonly selected: string;
  readonly enabled: string;
  /** Write one to acknowledge. */
  readonly inserted: string;
  /** Write one to acknowledge. */
  readonly removing: string;
}

/** Status of number arg0, as _STA gives it. */
export function statusMethod(methodName: string, controller: SelectingController): Aml {
  return method(
    methodName,
    { args: 1, serialized: true },
    acquire(controller.mutex),
    store(arg(0), path(controller.selected)),
    store(ZERO, local(0)),
    ifThen(equal(path(controller.enabled), ONE), store(STATUS_PRESENT, local(0))),
    release(controller.mutex),
    returnValue(local(0)),
  );
}

/** Notifies number arg0 of `devices` of event arg1. */
export function notifyMethod(methodName: string, devices: readonly string[]): Aml {
  return method(
    methodName,
    { args: 2, serialized: true },
    ...devices.map((name, index) => ifThen(equal(arg(0), integer(index)), notify(path(name), arg(1)))),
  );
}

/** Looks at `count` devices, notifies those that came or shall go by `notifyName`, and acknowledges. */
export function scanMethod(
  methodName: string,
  controller: SelectingController,
  notifyName: string,
  count: number,
): Aml {
  const onFlag = (flag: string, event: Aml) =>
    ifThen(equal(path(flag), ONE), call(notifyName, local(0), event), store(ONE, path(flag)));
  return method(
    methodName,
    { serialized: true },
    acquire(controller.mutex),
    store(ZERO, local(0)),
    whileLoop(
      lessThan(local(0), integer(count)),
      store(local(0), path(controller.selected)),
      onFlag(controller.inserted, NOTIFY_DEVICE_CHECK),
      onFlag(controller.removing, NOTIFY_EJECT_REQUEST),
      add(local(0), ONE, local(0)),
    ),
    release(controller.mutex),
  );
}
