package mongo

import (
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"millrace/events"
)

// unstorable is the error of a record that can never be stored.
func unstorable(format string, args ...any) error {
	return events.Permanent(fmt.Errorf("cannot be stored: "+format, args...))
}

// duplicateKey is the code of a write that a unique index refuses.
const duplicateKey = 11000

// refusedForGood are the codes by which a server says that a document is at fault, not its own state: BadValue,
// FailedToParse, InvalidBSON, InvalidIdField, DocumentValidationFailure, BSONObjectTooLarge and KeyTooLong
// (error_codes.yml of the MongoDB server).
func refusedForGood(code int) bool {
	return slices.Contains([]int{2, 9, 22, 53, 121, 10334, 17280}, code)
}

// classify marks the error of a write as permanent if it is the document's.
func classify(err error) error {
	var failed mongo.ServerError
	if errors.As(err, &failed) && slices.ContainsFunc(failed.ErrorCodes(), refusedForGood) || errors.As(err, new(mongo.MarshalError)) {
		return events.Permanent(err)
	}
	return err
}

// writeErrors takes apart what an unordered bulk write answered: an error for each model that failed by itself, or the one
// that leaves open what became of any.
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

// exceptDuplicates is the error of a write in which a document that is there already is as good as one that was inserted.
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
