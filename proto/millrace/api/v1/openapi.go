// Package apiv1 is the contract of the API for backends.
package apiv1

import _ "embed"

//go:embed api.swagger.json
var openAPI []byte

// OpenAPI returns the OpenAPI 2 document of the API by HTTP.
func OpenAPI() []byte { return openAPI }
