// Package proof shows that Millrace keeps its promises: clients note what they sent and what they were shown, the oracle
// beside it holds that against the history, and the tests meanwhile kill, freeze and cut off real processes.
//
// What is no test file is for tests only: users, crowds of users that journal, and addresses for processes. The tests of the
// roles, which run them inside the test process, use these too.
package proof
