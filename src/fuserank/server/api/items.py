"""The calls about items of the catalogue: add or replace, take out, look up."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fuserank.server.api.replies import served_by
from fuserank.server.messages.item_validation import check_delete, check_get_item, check_upsert
from fuserank.server.messages.items_conversion import item_reply, items_from_proto
from fuserank.server.pb import recommender_pb2 as pb

if TYPE_CHECKING:
    from fuserank.server.batching.served import Served
    from fuserank.server.bundles.bundles import Bundles
    from fuserank.server.messages.limits import Limits

__all__ = ["ItemCalls"]


class ItemCalls:
    """Answers them from the bundles that are loaded, whose engines share the live items."""

    def __init__(self, limits: "Limits", bundles: "Bundles[Served]") -> None:
        """Limit requests to what is allowed."""
        self._limits, self._bundles = limits, bundles

    async def upsert(
        self,
        requests: AsyncIterator[pb.UpsertItemsRequest],
        version: str | None,
        deadline: float,
    ) -> pb.UpsertItemsResponse:
        """Add or replace the items of each message of a stream, as it comes.

        Args:
            requests: the messages; the items of one are taken together or not at all.
            version: of the bundle, where the caller names one.
            deadline: monotonic seconds.

        Raises:
            FuserankError: as the engine raises it; the messages before stay.
            TimeoutError: the deadline passed.
        """
        response = pb.UpsertItemsResponse()
        async for message in requests:
            check_upsert(message, self._limits)
            # For each message: a stream may outlast many bundles.
            with self._bundles.lease(version) as served:
                engine = served.engine
                # Read on the thread: a message may hold megabytes.
                await served.call(
                    lambda engine=engine, message=message: engine.upsert(  # type: ignore[misc]
                        items_from_proto(message)
                    ),
                    deadline,
                )
            response.upserted_count += len(message.items)
        with self._bundles.lease(version) as served:
            response.served_by.CopyFrom(served_by(served.engine))
        return response

    async def delete(
        self, request: pb.DeleteItemsRequest, version: str | None, deadline: float
    ) -> pb.DeleteItemsResponse:
        """Take items out of the catalogue; arguments and errors are those of `upsert`."""
        check_delete(request, self._limits)
        with self._bundles.lease(version) as served:
            engine = served.engine
            count = await served.call(lambda: engine.delete(list(request.item_ids)), deadline)
            return pb.DeleteItemsResponse(deleted_count=count, served_by=served_by(engine))

    def get(self, request: pb.GetItemRequest, version: str | None) -> pb.GetItemResponse:
        """Return one item.

        Raises:
            UnknownItemError: the catalogue does not hold it.
        """
        check_get_item(request, self._limits)
        with self._bundles.lease(version) as served:
            response = item_reply(served.engine.item(request.item_id))
            response.served_by.CopyFrom(served_by(served.engine))
            return response
