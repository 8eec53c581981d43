// Package kafka is the bus over Apache Kafka, or over anything that speaks its protocol, such as the embedded broker.
//
// Publishing: the publisher splits a Publish by partition. Each partition has a queue, which sends one record batch at a time
// and collects what arrives meanwhile for the next. franz-go's idempotent producer sends it with acks=all, so a record batch
// is in the log as a whole or not at all, and the next one of the partition waits for its outcome.
//
// Consuming: every handler has a consumer group and reads with watermill-kafka's subscriber over Sarama, one message of a
// partition in flight. Two parts stand between the subscriber and its reader. The assignments see partitions come and go, and
// let go of a record that is being handled when its partition is taken away. The bundler makes one message of the records
// that wait.
//
// Positions: the epochs of a topic turn offsets into positions. The continuity watches that the log goes on where it was, so
// that no position is given twice, whatever becomes of topics and their partitions.
//
// Reading: the ends of the partitions, committed offsets and raw fetches come from the partitions' leaders, without joining a
// group. Consumers and readers alike see committed records only.
//
// # What is written by hand beside watermill-kafka, and why
//
// Assignments (assignments.go, assignment.go). When a message is refused, watermill-kafka sends it again until it is
// acknowledged, and does not notice when the session of the consumer group ends meanwhile. So a member with one refused
// message does not give up its partitions: when another member joined, all partitions of the group stood still for the
// rebalance timeout of ten seconds, and the first member never came back. Besides, push has to know which partitions it reads
// and from where, which watermill-kafka does not tell. The assignments end with the session, and report both.
//
// Bundles (bundle.go). watermill-kafka has one message of a partition in flight and does not deliver several at once. A store
// that commits once for many records takes 22,000 to 29,000 a second when a message stands for up to 64 of them, and 14,000
// to 18,000 when each is a message of its own, with 64 partitions on two cores.
//
// Both depend on the following; a test holds each point against watermill-kafka itself:
//   - Watermill passes the handler that Sarama is to call to the configured Tracer's WrapConsumerGroupHandler, and gives
//     Sarama what that returns. It is meant for tracing.
//   - That handler takes one message at a time from the Messages of its claim. It takes the next only after it has called
//     MarkMessage of its session with that very message, which it does when the message is acknowledged.
//   - If the context of its session is done by then, it returns without marking.
//   - A message that is refused comes again as it was, and no other before it.
//   - The context of a message holds the partition and offset of the message from the claim.
//
// Of Sarama they depend on this: a session is over when its context is done. Sarama waits for ConsumeClaim to return before
// the partition is given to another member, and includes in the last commit what was marked until then.
//
// What would replace them: for the assignments, a watermill-kafka that watches the session while it sends a refused message
// again, and has hooks for the begin and end of a claim; for the bundles, one that delivers several records at once. Or a
// message.Subscriber over franz-go's consumer groups, as the publisher is over its producer. franz-go polls many records at
// once, calls back when partitions are assigned and revoked, and reached 35,000 records a second in the same measurement.
// Sarama would not be needed any more.
package kafka
