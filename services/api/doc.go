// Package api serves the API for the backends of an application: the calls of proto/millrace/api/v1 by gRPC, and by HTTP with
// JSON as api.yaml there maps them, on one address.
//
// A request passes the gate, which finds out whose key it carries, and then, whether it came by HTTP or gRPC, the same
// interceptor, which checks the key's scopes. Service does the work by calling the message service of the same process.
package api
