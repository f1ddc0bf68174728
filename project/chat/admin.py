from django.contrib import admin

from project.chat.models import Message


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    list_display = ("id", "room", "author", "text", "created_at")
    list_filter = ("room",)
    list_select_related = ("author",)
    search_fields = ("text", "author__username")
    date_hierarchy = "created_at"
    raw_id_fields = ("author",)
    readonly_fields = ("client_id", "created_at")
