package mongo

import (
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
)

// unstorable returns the error of a record that can never be stored.
func unstorable(format string, args ...any) error {
	return events.Permanent(fmt.Errorf("cannot be stored: "+format, args...))
}

// duplicateKey is the error code of a write that a unique index refuses.
const duplicateKey = 11000

// refusedForGood reports whether the code says that the document is at fault and not the server's state: BadValue,
// FailedToParse, InvalidBSON, InvalidIdField, DocumentValidationFailure, BSONObjectTooLarge and KeyTooLong (error_codes.yml
// of the MongoDB server).
func refusedForGood(code int) bool {
	return slices.Contains([]int{2, 9, 22, 53, 121, 10334, 17280}, code)
}

// classify marks the error of a write as permanent if the document is at fault.
func classify(err error) error {
	var failed mongo.ServerError
	if errors.As(err, &failed) && slices.ContainsFunc(failed.ErrorCodes(), refusedForGood) || errors.As(err, new(mongo.MarshalError)) {
		return events.Permanent(err)
	}
	return err
}

// writeErrors takes apart the error of an unordered bulk write. It returns the errors of those models that failed, or an
// error that leaves the outcome of all of them open.
func writeErrors(err error) (map[int]mongo.WriteError, error) {
	var bulk mongo.BulkWriteException
	if !errors.As(err, &bulk) || bulk.WriteConcernError != nil || len(bulk.WriteErrors) == 0 {
		return nil, err
	}
	failed := make(map[int]mongo.WriteError, len(bulk.WriteErrors))
	for _, e := range bulk.WriteErrors {
		failed[e.Index] = e.WriteError
	}
	return failed, nil
}

// exceptDuplicates returns the error of a write for which an existing document is as good as an inserted one.
func exceptDuplicates(err error) error {
	var bulk mongo.BulkWriteException
	if errors.As(err, &bulk) {
		if bulk.WriteConcernError != nil {
			return err
		}
		for _, e := range bulk.WriteErrors {
			if e.Code != duplicateKey {
				return err
			}
		}
		return nil
	}
	if mongo.IsDuplicateKeyError(err) {
		return nil
	}
	return err
}
