// kafkajs, unmodified, against the broker at BOOTSTRAP. PARTS may name some of its parts.
import kafkajs from 'kafkajs'

import { administration } from './administration.js'
import { Checks } from './checks.js'
import { content } from './content.js'
import { groups } from './groups.js'

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

  async withAdmin(call) {
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
