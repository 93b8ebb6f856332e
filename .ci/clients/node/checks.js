// Counts named checks and prints one PASS or FAIL line for each.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

/** Nodes are killed meanwhile. */
export const TORMENTED = 'TORMENTED' in process.env

export class Checks {
  #passed = 0
  #failed = 0

  async run(name, check) {
    const start = performance.now()
    try {
      await check()
      this.#passed += 1
      console.log(`PASS ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)`)
    } catch (problem) {
      this.#failed += 1
      console.log(`FAIL ${name}: ${String(problem.message ?? problem).replaceAll(/\s+/g, ' ')}`)
      console.error(problem)
    }
  }

  /** Prints the sum and gives the exit code. */
  close() {
    console.log(`${this.#passed} passed, ${this.#failed} failed`)
    return this.#failed === 0 ? 0 : 1
  }
}

/** Polls until the condition holds; `what` says what was waited for in vain. */
export async function eventually(what, limitMs, condition) {
  const deadline = performance.now() + limitMs
  while (!(await condition())) {
    assert(performance.now() < deadline, `not within ${limitMs} ms: ${what}`)
    await sleep(20)
  }
}

/** The call must be refused with this error of the protocol. */
export async function refused(type, call) {
  let problem
  try {
    await call()
  } catch (caught) {
    problem = caught
  }
  assert(problem, `expected ${type}, but it was accepted`)
  const inner = [problem.cause, ...(problem.errors ?? [])]
  const types = [problem, ...inner].map((error) => error?.type)
  assert(types.includes(type), `expected ${type}, got ${types} (${problem.message})`)
}
