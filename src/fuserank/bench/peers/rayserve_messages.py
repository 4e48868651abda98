"""The messages of the Open Inference Protocol, under the names by which Ray pickles them.

protoc names their module after the proto file; here they live in another package. Imported by each
process of Ray that handles them.
"""

import sys
from types import ModuleType

from fuserank.server.pb import grpc_service_pb2, grpc_service_pb2_grpc

__all__ = ["add_servicer"]

sys.modules.setdefault("inference", ModuleType("inference"))
sys.modules.setdefault("inference.grpc_service_pb2", grpc_service_pb2)

add_servicer = grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server
