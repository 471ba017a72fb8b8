/**
 * Versions of runtimes.
 *
 * @module
 */

/** Whether "1.4.5" is at least [1, 4, 0]. */
export function atLeast(version: string, least: readonly number[]): boolean {
  const parts = version.split(/[.+-]/).map(Number);
  for (let i = 0; i < least.length; i++) {
    const part = parts[i] || 0;
    if (part !== least[i]) return part > least[i];
  }
  return true;
}
