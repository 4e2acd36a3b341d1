"""Accounts and orders, with the columns of Headwater's views and the indexes that the same lists need."""

from django.db import models


class Account(models.Model):
    id = models.UUIDField(primary_key=True)
    email = models.TextField()
    username = models.TextField()
    name = models.TextField(null=True)
    region = models.TextField(null=True)
    status = models.TextField(default="active")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "accounts"
        # `unique=True` would make a second index of each, for searches that nobody does.
        constraints = [
            models.UniqueConstraint(fields=["email"], name="accounts_email"),
            models.UniqueConstraint(fields=["username"], name="accounts_username"),
        ]
        indexes = [
            # GET /accounts?status=…&sort=-created_at: the newest of a status.
            models.Index(fields=["status", "created_at", "id"], include=["username"], name="accounts_by_status"),
        ]


class Order(models.Model):
    id = models.UUIDField(primary_key=True)
    # Its index is the one below, which begins with the same column.
    account = models.ForeignKey(Account, on_delete=models.PROTECT, db_index=False)
    quantity = models.IntegerField()
    amount_cents = models.BigIntegerField()
    currency = models.TextField()
    status = models.TextField(default="placed")
    reason = models.TextField(null=True)
    placed_at = models.DateTimeField()

    class Meta:
        db_table = "orders"
        indexes = [
            # GET /orders?account_id=…&sort=-placed_at: the orders of one account, newest first.
            models.Index(fields=["account", "placed_at", "id"], name="orders_by_account"),
            # GET /orders?sort=-placed_at: the newest orders of all.
            models.Index(fields=["placed_at", "id"], name="orders_by_placed_at"),
        ]
