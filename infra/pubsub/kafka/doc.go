// Package kafka is the bus over Apache Kafka, or anything that speaks its protocol such as the embedded broker.
//
// Publishing: a Publish is split by partition; each partition has a lane, which sends one batch of records at a time and
// gathers what arrives meanwhile into the next. A batch is one Kafka record batch of franz-go's idempotent producer with
// acks=all, so it is in the log as a whole or not at all, and what comes after it in the partition waits for its outcome.
//
// Consuming: watermill-kafka's subscriber over Sarama, one consumer group per handler, one message of a partition in
// flight. Between it and its reader stand the assignments, which see partitions come and go and let go of a record that is
// being handled when its partition is taken away, and the bundler, which makes one message of the records that wait.
//
// Positions: the epochs of a topic make them of offsets. The continuity watches that the log goes on where it was, so that
// none is given twice, whatever becomes of topics and their partitions.
//
// Reading: the ends of the partitions, committed offsets, and raw fetches from the partitions' leaders, without joining a
// group. Consumers and readers alike see committed records only.
//
// # What is written by hand beside watermill-kafka, and why
//
// Assignments (assignments.go, assignment.go). When a message is refused, watermill-kafka sends it again until it is acknowledged, and
// does not look whether the session of the consumer group has ended meanwhile. So a member with one refused message does
// not give its partitions up: when another joined, all partitions of the group stood still for the rebalance timeout of
// ten seconds, and the first member never came back. Besides, push has to know which partitions it reads and from where,
// which watermill-kafka does not tell. The assignments end an assignment with its session, and report both.
//
// Bundles (bundle.go). watermill-kafka has one message of a partition in flight and no batches. A store that commits once
// for many records takes 22,000 to 29,000 a second when a message stands for up to 64 of them, and 14,000 to 18,000 when
// each is a message of its own, with 64 partitions on two cores.
//
// Both depend on the following; a test holds each against watermill-kafka itself:
//   - WrapConsumerGroupHandler of the configured Tracer is given the handler that Sarama is to call, and what it returns is
//     called instead. It is meant for tracing.
//   - That handler takes one message at a time from the Messages of its assignment, and the next only once it has called
//     MarkMessage of its session with that very message, which it does when the message is acknowledged.
//   - It does not mark, and returns, when the context of its session is done by then.
//   - A message that is refused comes again as it was, and no other before it.
//   - The context of a message tells partition and offset of what the assignment gave.
//
// Of Sarama they depend on this: a session is over when its context is done, Sarama waits for ConsumeClaim to return
// before the partition is given to another member, and takes what was marked until then along in the last commit.
//
// What would replace them: for the assignments, a watermill-kafka that looks at the session while it sends a refused message
// again, and has hooks for an assignment's begin and end; for the bundles, one that hands over batches. Or a message.Subscriber
// over franz-go's consumer groups, as the publisher is over its producer. It polls batches, calls back when partitions are
// assigned and revoked, and reached 35,000 records a second in the same measurement; then Sarama could go.
package kafka
