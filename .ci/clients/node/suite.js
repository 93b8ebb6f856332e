// kafkajs, unmodified, against the broker at BOOTSTRAP. PARTS may name some of its parts.
import { setTimeout as sleep } from 'node:timers/promises'

import kafkajs from 'kafkajs'

import { administration } from './administration.js'
import { Checks, TORMENTED } from './checks.js'
import { content } from './content.js'
import { groups } from './groups.js'

const ADMIN_WITHIN_MS = 30_000

/** One run against one broker: opens clients and gives names that no run used before. */
class Session {
  #run = Date.now().toString(36)

  constructor(bootstrap) {
    this.kafka = new kafkajs.Kafka({
      clientId: 'corelane-suite',
      brokers: bootstrap.split(','),
      logLevel: kafkajs.logLevel.NOTHING,
      retry: { initialRetryTime: 100 },
    })
  }

  name(purpose) {
    return `kafkajs-${purpose}-${this.#run}`
  }

  /**
   * While nodes are killed, what is asked is asked again: kafkajs's admin client passes on that a connection was lost,
   * and says that one may.
   */
  async withAdmin(call) {
    const deadline = performance.now() + ADMIN_WITHIN_MS
    for (;;) {
      try {
        return await this.#askAdmin(call)
      } catch (problem) {
        const may = problem.retriable || problem.cause?.retriable
        if (!TORMENTED || !may || performance.now() > deadline) throw problem
        await sleep(100)
      }
    }
  }

  async #askAdmin(call) {
    const admin = this.kafka.admin()
    await admin.connect()
    try {
      return await call(admin)
    } finally {
      await admin.disconnect()
    }
  }
}

const session = new Session(process.env.BOOTSTRAP ?? '127.0.0.1:9092')
const checks = new Checks()
// Groups wait far more than they work, so all parts share the clock.
const parts = {
  content,
  'content-tormented': (session, checks) => content(session, checks, true),
  groups,
  administration,
}
const wanted = (process.env.PARTS ?? 'content,groups,administration').split(',')
await Promise.all(wanted.map((name) => parts[name](session, checks)))
process.exit(checks.close())
