package kafka

import (
	"errors"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"golang.org/x/time/rate"
)

// faultInterval is how often a subscription logs that partitions cannot be read.
const faultInterval = 5 * time.Second

// calm logs one line for all partitions, because each of them reports several times a second while a broker is away.
type calm struct {
	watermill.LoggerAdapter
	sometimes *rate.Sometimes
}

func (c calm) Error(msg string, err error, fields watermill.LogFields) {
	if partition := new(sarama.ConsumerError); errors.As(err, &partition) {
		c.sometimes.Do(func() { c.LoggerAdapter.Error(msg, err, fields) })
		return
	}
	c.LoggerAdapter.Error(msg, err, fields)
}

func (c calm) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return calm{c.LoggerAdapter.With(fields), c.sometimes}
}
