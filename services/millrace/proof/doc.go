// Package proof shows that Millrace keeps its promises. Clients note what they have sent and received, while the tests kill,
// freeze and cut off real processes. In the end the oracle (package oracle) compares these notes with the history.
//
// The files that are no test files are for tests only: users, crowds of users that keep a journal, and addresses for
// processes. The tests of the roles, which run the roles inside the test process, use these too.
package proof
