// Members join and leave while records flow. kafkajs rebalances eagerly only.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

import { TORMENTED, eventually } from './checks.js'

const PARTITIONS = 6
const PATIENCE_MS = 45_000

export async function groups(session, checks) {
  const topic = session.name('group')
  const ledger = new Ledger()
  await checks.run('groups: eager: rebalance while records flow', () =>
    rebalance(session, topic, ledger),
  )
  await checks.run('groups: eager: every record handled, no partition owned twice', () =>
    ledger.verify(),
  )
  await checks.run('groups: eager: committed offsets reach the end', () => committed(session, topic))
  await checks.run('groups: eager: resumes where it stopped', () => resume(session, topic))
}

/** What a group was given, who owned it and what it handled, as its members report it. */
class Ledger {
  produced = new Array(PARTITIONS).fill(0)
  #following = new Array(PARTITIONS).fill(0)
  #owners = new Map()
  #violations = []

  assigned(member, partition) {
    const owner = this.#owners.get(partition)
    if (owner !== undefined && owner !== member) {
      this.#violations.push(`${partition} given to ${member} while ${owner} owned it`)
    }
    this.#owners.set(partition, member)
  }

  released(member) {
    for (const [partition, owner] of this.#owners) {
      if (owner === member) this.#owners.delete(partition)
    }
  }

  /**
   * kafkajs gives no chance to commit before it lets go, so a record may come again after a rebalance;
   * none may be skipped.
   */
  handled(member, partition, offset) {
    if (offset > this.#following[partition]) {
      this.#violations.push(
        `${member} got ${offset} of ${partition} instead of ${this.#following[partition]}`,
      )
    }
    this.#following[partition] = Math.max(this.#following[partition], offset + 1)
  }

  complete() {
    return this.produced.every((count, partition) => count === this.#following[partition])
  }

  verify() {
    assert(this.produced.some((count) => count > 0), 'nothing was produced')
    assert.deepEqual(this.#following, this.produced)
    assert.deepEqual(this.#violations, [])
  }
}

class Member {
  owned = 0
  handled = 0

  constructor(name, session, topic, ledger) {
    this.name = name
    this.topic = topic
    this.ledger = ledger
    this.consumer = session.kafka.consumer({
      groupId: topic,
      sessionTimeout: 15_000,
      heartbeatInterval: 500,
      maxWaitTimeInMs: 200,
    })
    const { GROUP_JOIN, REBALANCING, DISCONNECT } = this.consumer.events
    this.consumer.on(REBALANCING, () => this.#release())
    this.consumer.on(DISCONNECT, () => this.#release())
    this.consumer.on(GROUP_JOIN, ({ payload }) => {
      const partitions = payload.memberAssignment[topic] ?? []
      this.owned = partitions.length
      for (const partition of partitions) ledger.assigned(name, partition)
    })
  }

  #release() {
    this.owned = 0
    this.ledger.released(this.name)
  }

  async join() {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [this.topic], fromBeginning: true })
    await this.consumer.run({
      autoCommitThreshold: 1,
      eachMessage: async ({ partition, message }) => {
        this.ledger.handled(this.name, partition, Number(message.offset))
        this.handled += 1
      },
    })
  }

  leave() {
    return this.consumer.disconnect()
  }
}

async function rebalance(session, topic, ledger) {
  await session.withAdmin((admin) =>
    admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }] }),
  )
  const enough = new AbortController()
  const producing = produceUntil(session, topic, enough.signal, ledger)
  const members = []
  try {
    for (let number = 0; number < 4; number += 1) {
      if (number === 3) {
        await members.shift().leave()
        await balanced(members)
      }
      const member = new Member(`member ${number}`, session, topic, ledger)
      members.push(member)
      await member.join()
      await balanced(members)
    }
    enough.abort()
    await producing
    await eventually('all records handled', PATIENCE_MS, () => ledger.complete())
  } finally {
    enough.abort()
    await Promise.all([producing, ...members.map((member) => member.leave())])
  }
}

/** All partitions are owned, each member has its share, and each goes on handling records. */
async function balanced(members) {
  await eventually(`balance of ${members.length} members`, PATIENCE_MS, () => {
    const owned = members.map((member) => member.owned)
    const share = Math.floor(PARTITIONS / members.length)
    return owned.every((has) => has >= share) && owned.reduce((a, b) => a + b) === PARTITIONS
  })
  for (const member of members) {
    const before = member.handled
    await eventually(`progress of ${member.name}`, PATIENCE_MS, () => member.handled > before)
  }
}

async function produceUntil(session, topic, enough, ledger) {
  const producer = session.kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  try {
    for (let number = 0; !enough.aborted; number += 1) {
      const partition = number % PARTITIONS
      await producer.send({ topic, messages: [{ partition, value: 'record' }] })
      ledger.produced[partition] += 1
      await sleep(2)
    }
  } finally {
    await producer.disconnect()
  }
}

async function committed(session, topic) {
  await session.withAdmin(async (admin) => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
    const ends = await admin.fetchTopicOffsets(topic)
    assert.equal(partitions.length, PARTITIONS)
    for (const { partition, offset } of partitions) {
      const end = ends.find((other) => other.partition === partition).high
      assert.equal(offset, end, `committed offset of ${partition}`)
    }
  })
}

/**
 * A new member of the old group gets exactly what was produced since the last commit; some of it twice if it had to
 * join again before it could commit, because nodes are killed.
 */
async function resume(session, topic) {
  const extra = 60
  const producer = session.kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const messages = Array.from({ length: extra }, (_, i) => ({
    partition: i % PARTITIONS,
    value: 'extra',
  }))
  await producer.send({ topic, messages })
  await producer.disconnect()
  const consumer = session.kafka.consumer({ groupId: topic, heartbeatInterval: 500 })
  await consumer.connect()
  try {
    const values = new Map()
    let again = 0
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({
      eachMessage: async ({ partition, message }) => {
        const place = `${partition}:${message.offset}`
        again += values.has(place)
        values.set(place, String(message.value))
      },
    })
    await eventually('the new records', PATIENCE_MS, () => values.size >= extra)
    await sleep(300)
    assert.deepEqual([...values.values()], new Array(extra).fill('extra'))
    assert(TORMENTED || again === 0, `${again} records came again`)
  } finally {
    await consumer.disconnect()
  }
}
