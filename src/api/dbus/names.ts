/**
 * What may be called how on a bus.
 *
 * L6, pure. Source: D-Bus Specification 0.43, "Valid Names", "Valid Object Paths".
 */
const MAX_NAME_LENGTH = 255;
const WELL_KNOWN_NAME = /^[A-Za-z_-][\w-]*(?:\.[A-Za-z_-][\w-]*)+$/;
const UNIQUE_NAME = /^:[\w-]+(?:\.[\w-]+)+$/;
const OBJECT_PATH = /^\/(?:\w+(?:\/\w+)*)?$/;

/** Whether a service can ask for `name`. */
export function isWellKnownName(name: string): boolean {
  return name.length <= MAX_NAME_LENGTH && WELL_KNOWN_NAME.test(name);
}

/** Whether a service can be reached by `name`. */
export function isBusName(name: string): boolean {
  return isWellKnownName(name) || (name.length <= MAX_NAME_LENGTH && UNIQUE_NAME.test(name));
}

/** Whether an object can be at `path`. */
export function isObjectPath(path: string): boolean {
  return OBJECT_PATH.test(path);
}
